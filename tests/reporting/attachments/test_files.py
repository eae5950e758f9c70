from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from deploykit.base.artifact import attachments_path
from deploykit.base.errors import BadInput
from deploykit.commands.benchmark import benchmark
from deploykit.commands.export import export
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.config.quantize import AnalyzeConfig
from deploykit.pipeline.stages import files_of_artifact
from deploykit.quantization.analyze import analyze
from deploykit.reporting.attachments import series, table
from deploykit.reporting.attachments.files import attach, attached, gather

CURVE = series("Learning curves", "train", "epoch", "loss", {"train": [(0, 2.0), (1, 1.0)]})
TABLE = table("Layers", "export", ["layer", "n"], [["conv1", 3]])


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(tiny_model, tmp_path / "model.pt"))


def test_what_is_attached_is_read_back_and_kept_with_the_artifact(model: Path) -> None:
    attach(model, [CURVE, TABLE])
    assert attached(model) == [CURVE, TABLE]
    assert attachments_path(model) in files_of_artifact(model)
    attach(model, [])
    assert attached(model) == []
    assert attachments_path(model) not in files_of_artifact(model)


def test_those_of_an_earlier_artifact_are_not_shown(model: Path) -> None:
    attach(model, [CURVE])
    model.write_bytes(model.read_bytes() + b" ")
    assert attached(model) == []


def test_a_foreign_file_is_not_replaced(model: Path) -> None:
    attachments_path(model).write_text("mine")
    with pytest.raises(BadInput, match=r"model\.pt\.attachments\.json exists and was not made by deploykit"):
        attach(model, [CURVE])
    assert attached(model) == []
    attach(model, [CURVE], force=True)
    assert attached(model) == [CURVE]


def test_an_item_that_was_broken_is_left_out(model: Path) -> None:
    attach(model, [CURVE, TABLE])
    fields = json.loads(attachments_path(model).read_text())
    fields["items"][0]["payload"]["lines"][0]["points"] = [["a", "b"]]
    attachments_path(model).write_text(json.dumps(fields))
    assert attached(model) == [TABLE]


def test_equal_ones_of_several_variants_share_a_file(model: Path, tmp_path: Path) -> None:
    attach(model, [CURVE, TABLE])
    folder = tmp_path / "run"
    folder.mkdir()
    first, second = gather([model], folder), gather([model], folder)
    assert first == second
    assert [one.title for one in first] == ["Learning curves", "Layers"]
    assert len(list((folder / "attachments").iterdir())) == 2


def test_the_report_shows_those_of_the_whole_chain_and_the_analysis_beside_it(
    model: Path, digits_npz: Path, tmp_path: Path
) -> None:
    analyze(model, config=AnalyzeConfig(data="digits", images=8, select_images=8, method="minmax"))
    attach(model, [CURVE])
    made = export(model, tmp_path / "model.onnx").output
    attach(made, [TABLE])
    config = BenchmarkConfig(data=str(digits_npz), max_time_s=0.5, min_blocks=3, block_ms=2.0, end_to_end=False)
    found = benchmark([f"eager={model}", f"fp32={made}"], tmp_path / "run", config)
    eager, fp32 = found.report.variants
    sensitivity = "Sensitivity of model to int8, layer by layer"
    assert [one.title for one in eager.attachments] == ["Learning curves", sensitivity]
    assert [one.title for one in fp32.attachments] == ["Learning curves", sensitivity, "Layers"]
    assert eager.attachments[0].file == fp32.attachments[0].file
    page = (tmp_path / "run" / "report.html").read_text()
    assert "How it came about" in page
    assert "layer1.0.conv1" in page
    assert page[page.index("How it came about") :].count('class="curve"') == 2


def test_an_analysis_of_another_model_is_not_shown(model: Path) -> None:
    analyze(model, config=AnalyzeConfig(data="digits", images=8, select_images=8, method="minmax"))
    assert [one.kind for one in attached(model)] == ["sensitivity"]
    model.write_bytes(model.read_bytes() + b" ")
    assert attached(model) == []
