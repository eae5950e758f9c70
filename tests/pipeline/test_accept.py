"""A variant that is beyond its bars is made, timed and shown; a person may accept it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deploykit.base.artifact import artifact_sha256
from deploykit.base.choices import Choices, write_choices
from deploykit.base.environment import isa
from deploykit.cli.main import app
from deploykit.pipeline import RunResult, run
from deploykit.reporting import read_report
from deploykit.reporting.schema import Variant

RECIPE = """\
version: 1
name: bars
data: digits
model: {arch: deploykit:resnet, kwargs: {depth: 8, widths: [8, 16, 32], stem_stride: 2}}
train: {epochs: 1, threads: 1}
variants:
  fp32: {target: ort-cpu}
  int8: {from: fp32, target: ort-cpu, steps: [{quantize: {images: 32, select_images: 32, effort: fast}}]}
benchmark: {images: 60, max_time_s: 0.5, min_blocks: 5, block_ms: 2, end_to_end: false}
"""
BEYOND = "budget: {min_snr_db: 70, max_drop_pt: 100}\n"
"""No int8 reaches it, and fp32 does."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bars")
    (folder / "bars.yaml").write_text(RECIPE + BEYOND)
    return folder


@pytest.fixture(scope="module")
def failed(home: Path) -> RunResult:
    return run(home / "bars.yaml", home / "run")


def int8_of(result: RunResult) -> Variant:
    assert result.report is not None
    found = result.report.variant("int8")
    assert found is not None
    return found


def test_what_fails_is_kept_measured_and_marked(home: Path, failed: RunResult) -> None:
    int8 = int8_of(failed)
    assert (int8.status, int8.accepted) == ("failed", False)
    assert "70" in int8.reason
    assert int8.measurements
    assert int8.speedup is not None
    assert int8.quality.n == 60
    assert (home / "run" / int8.artifact.path).is_file()
    assert (int8.verdict.status, int8.verdict.split) == ("failed", int8.parity.split)
    assert failed.report.pick.name == "fp32"
    assert (failed.status, failed.exit_code) == ("failed", 1)
    for text in (failed.summary(), (home / "run" / "report.md").read_text()):
        assert "int8 (failed)" in text


def test_the_same_again_from_the_store(home: Path, failed: RunResult) -> None:
    again = run(home / "bars.yaml", home / "run")
    assert {one.status for one in again.stages} == {"kept"}
    assert (again.status, again.exit_code) == ("failed", 1)


def test_an_accepted_one_may_be_the_pick_and_the_run_is_no_failure(home: Path, failed: RunResult) -> None:
    recipe = home / "accepted.yaml"
    recipe.write_text(RECIPE.replace("{from: fp32, ", "{from: fp32, accept: true, ") + BEYOND)
    result = run(recipe, home / "run")
    made = {one.name: one.status for one in result.stages}
    assert {made[name] for name in made if name != "all.benchmark"} == {"kept"}  # accepting makes nothing anew
    int8 = int8_of(result)
    assert (int8.status, int8.accepted) == ("failed", True)
    assert (result.status, result.exit_code) == ("ok", 0)
    assert "int8 (failed, accepted)" in result.summary()
    page = (home / "run" / "report.html").read_text()
    assert "Accepted by hand" in page
    assert "Failed, not to be used" not in page


def test_a_choices_file_is_part_of_what_the_store_knows_a_result_by(home: Path, failed: RunResult) -> None:
    """What it chose counts; when and where it was measured does not."""
    file = home / "int8.choices.json"
    step = f"quantize: {{choices: {file}, "
    (home / "chosen.yaml").write_text(RECIPE.replace("quantize: {", step) + BEYOND)

    def quantized(measured: float, **chosen: Any) -> tuple[str, bytes]:
        parent = artifact_sha256(home / "run" / "artifacts" / "fp32.onnx")
        placed = {"prefix": [], "float_adds": False, "float_head": False, **chosen}
        write_choices(file, Choices("quantize", parent, isa(), placed, {"best": [measured]}))
        result = run(home / "chosen.yaml", home / "run")
        (stage,) = [one.status for one in result.stages if one.name == "int8.quantize"]
        return stage, (home / "run" / "artifacts" / "int8.onnx").read_bytes()

    first, second, third = quantized(1.0), quantized(2.0), quantized(1.0, float_head=True)
    assert [one[0] for one in (first, second, third)] == ["done", "kept", "done"]
    assert first[1] == second[1] != third[1]


def test_benchmark_accepts_by_flag_and_by_name(home: Path, failed: RunResult) -> None:
    quick = ["--data", "digits", "--images", "60", "--max-time", "0.5", "--min-snr-db", "70", "--json", "--quiet"]
    files = [str(home / "run" / "artifacts" / name) for name in ("fp32.onnx", "int8.onnx")]
    codes = {}
    for more in ([], ["--accept"], ["--accept-variant", "int8"], ["--accept-variant", "int9"]):
        done = CliRunner().invoke(app, ["benchmark", *files, *quick, *more])
        codes[" ".join(more)] = done.exit_code
        if done.exit_code < 2:
            (int8,) = [one for one in json.loads(done.stdout)["report"]["variants"] if one["name"] == "int8"]
            assert (int8["status"], int8["accepted"]) == ("failed", bool(more))
    assert codes == {"": 1, "--accept": 0, "--accept-variant int8": 0, "--accept-variant int9": 2}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (RECIPE + "budget: {min_snr: 9}\n", "min_snr_db"),
        (RECIPE + "budget: {min_agreement: 2}\n", "min_agreement"),
        (RECIPE.replace("images: 60,", "images: 60, accept: true,"), "accept: true of the variant"),
        (RECIPE.replace("images: 60,", "images: 60, min_snr_db: 9,"), "budget: {min_snr_db"),
    ],
)
def test_misplaced_bars_are_told_with_their_place(text: str, place: str, tmp_path: Path) -> None:
    (tmp_path / "bars.yaml").write_text(text)
    done = CliRunner().invoke(app, ["run", str(tmp_path / "bars.yaml"), "--dry-run", "-o", str(tmp_path / "run")])
    assert done.exit_code == 2
    assert place in done.stderr


def test_the_report_says_what_was_judged_on_what(home: Path, failed: RunResult) -> None:
    said: dict[str, Any] = read_report(home / "run").plain()
    for one in said["variants"]:
        assert one["parity"]["n"] > 0
        assert "test" not in one["parity"]["split"]  # no choice is made on what only reports may see
        assert (one["quality"]["split"], one["accuracy"]["split"]) == ("test", "test")
