"""A line more in a registry is all that a new criterion, range method, data form or loss needs, beside its code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import deploykit
from deploykit.base.artifact import read_manifest
from deploykit.base.errors import BadInput
from deploykit.config import registries as r
from deploykit.config.common import build
from deploykit.config.distill import DistillConfig
from deploykit.config.prune import PruneConfig
from deploykit.config.quantize import QuantizeConfig

CALLED: list[str] = []


@pytest.fixture(autouse=True)
def _none_called() -> None:
    CALLED.clear()


def last_first(module, graph, given):
    """A criterion: channels count for as much as their number."""
    CALLED.append("last_first")
    return [np.arange(group.width, dtype=np.float64) for group in graph.groups]


def test_a_criterion(monkeypatch: pytest.MonkeyPatch, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="'last-first'"):
        deploykit.prune(tiny_model, tmp_path / "out.pt", params=0.6, importance="last-first")
    monkeypatch.setitem(
        r.CRITERIA.entries, "last-first", r.Criterion("last-first", f"{__name__}:last_first", "its number")
    )
    made = deploykit.prune(tiny_model, tmp_path / "out.pt", params=0.6, importance="last-first")
    assert CALLED == ["last_first"]
    assert made.facts["importance"] == "last-first"


def shaved(seen, scheme, percentile):
    """A range method: a little less than what was seen."""
    CALLED.append(f"shaved {percentile}")
    return 0.98 * seen.low, 0.98 * seen.high


def test_a_range_method(monkeypatch: pytest.MonkeyPatch, trained_model: Path, tmp_path: Path) -> None:
    monkeypatch.setitem(r.RANGE_METHODS.entries, "shaved", r.Entry("shaved", f"{__name__}:shaved", "a little less"))
    fields = {"images": 16, "select_images": 16, "equalize": "off", "bias_correction": "off", "force_int8": True}
    config = build(QuantizeConfig, {"data": "digits", "method": "shaved", **fields})
    made = deploykit.quantize(trained_model, tmp_path / "out.onnx", config=config, percentile=77)
    assert set(CALLED) == {"shaved 77.0"}
    assert made.facts["choice"]["method"] == "shaved"


def open_scatter(asked):
    """A form of data: a text says how bright."""
    from deploykit.data import DataSource
    from deploykit.data.stores import Array, Part

    pixels = np.zeros((40, 8, 8, 3), np.uint8)
    pixels[:, 0, 0, 0] = np.arange(40) * int(asked.name.partition(":")[2])
    part = Part(Array(pixels), np.arange(40) % 2)
    return DataSource(asked.name, ("even", "odd"), {"pool": lambda: part}, (8, 8))


def test_a_data_form(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="would run code"):
        deploykit.open_data("scatter:A")
    with pytest.raises(BadInput, match="unknown data 'scatter:2'"):
        deploykit.open_data("scatter:2")
    monkeypatch.setitem(
        r.DATA_FORMS.entries,
        "scatter",
        r.DataForm("scatter", f"{__name__}:open_scatter", "scatter", "scatter:LIGHT", "text"),
    )
    data = deploykit.open_data("scatter:2")
    assert data.classes == ("even", "odd")
    assert sum(len(data.split(name)) for name in ("train", "select", "test")) == 40
    with pytest.raises(BadInput, match="scatter:LIGHT"):
        deploykit.open_data("nothing of the kind")
    with pytest.raises(BadInput, match="'scatter:x'"):
        deploykit.open_data("scater:x")


def test_a_form_that_has_a_name_is_never_taken_for_user_code(monkeypatch: pytest.MonkeyPatch) -> None:
    from deploykit.data.forms import form_of, names_code

    assert names_code("scatter:root")
    monkeypatch.setitem(
        r.DATA_FORMS.entries,
        "scatter",
        r.DataForm("scatter", f"{__name__}:open_scatter", "scatter", "scatter:ROOT", "folder"),
    )
    assert not names_code("scatter:root")
    assert form_of("scatter:root") == "scatter"
    for form in r.DATA_FORMS.values():
        assert names_code(f"{form.name}:function") == (form.after is None)


def absolute(student, teacher, labels, temperature, weight):
    """A loss between logits."""
    CALLED.append(f"absolute {temperature:g} {weight:g}")
    return weight * (student - teacher).abs().mean() / temperature


def products(student, teacher):
    """A loss between maps."""
    CALLED.append("products")
    return (student.mean(dim=1) - teacher.mean(dim=1)).pow(2).mean()


def test_losses(monkeypatch: pytest.MonkeyPatch, tiny_model: Path, tmp_path: Path, digits_npz: Path) -> None:
    monkeypatch.setitem(
        r.LOSSES.entries, "absolute", r.LogitLoss("absolute", f"{__name__}:absolute", "Weber 1834", 2.0, 0.25)
    )
    monkeypatch.setitem(
        r.FEATURE_LOSSES.entries, "products", r.FeatureLoss("products", f"{__name__}:products", "Weber 1834", maps=True)
    )
    layer = next(
        name
        for name, one in deploykit.load_model(tiny_model).module.named_modules()
        if isinstance(one, torch.nn.Conv2d)
    )
    fields = {"epochs": 1, "batch": 128, "threads": 1, "device": "cpu", "cache": False, "features": "products"}
    config = build(
        DistillConfig,
        {"data": str(digits_npz), "teachers": [str(tiny_model)], "loss": "absolute", "layers": [layer], **fields},
    )
    made = deploykit.distill(tiny_model, tmp_path / "out.pt", config=config)
    assert set(CALLED) == {"absolute 2 0.25", "products"}
    manifest = read_manifest(made.output)
    assert manifest is not None
    assert manifest.config["loss"] == "absolute"


def test_what_a_configuration_allows_is_what_the_table_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    from deploykit.config.quantize import AnalyzeConfig

    def allowed(kind, field, **fields):
        with pytest.raises(BadInput) as caught:
            build(kind, {field: "nothing", **fields})
        return caught.value.expected.replace("'", "").replace(" or ", ", ").split(", ")

    distill = {"data": "digits", "teachers": ["a.pt"]}
    assert allowed(PruneConfig, "importance", macs=0.5) == list(r.CRITERIA)
    assert allowed(QuantizeConfig, "method") == ["auto", *r.RANGE_METHODS, "qat"]
    assert allowed(AnalyzeConfig, "method") == ["auto", *r.RANGE_METHODS]
    assert allowed(DistillConfig, "loss", **distill) == list(r.LOSSES)
    assert allowed(DistillConfig, "features", **distill) == list(r.FEATURE_LOSSES)
    with pytest.raises(BadInput) as caught:
        build(PruneConfig, {"macs": 0.5, "importance": "tailor"})
    assert caught.value.fix == "did you mean 'taylor'?"


def max_rounds(case):
    """A limit: how many rounds were timed."""
    from deploykit.gating.question import Question

    CALLED.append("max_rounds")
    rounds = len(case.new.sessions[0][case.name])
    return Question(case.name, case.rule, case.limit, rounds, True, exact=True, source="raw samples")


def test_a_limit(tmp_path: Path) -> None:
    """In a process of its own: a policy's fields are made when its module is imported."""
    from tests.gating.made import run_folder

    run_folder(tmp_path / "run", {"fp32": {}, "int8": {"factor": 0.4}})
    for name, limit in {"wide": 10_000, "tight": 3, "wrong": -1}.items():
        (tmp_path / f"{name}.yaml").write_text(f"version: 1\nlimits:\n  int8: {{max_rounds: {limit}}}\n")
    with pytest.raises(BadInput, match="unknown key 'max_rounds'"):
        deploykit.gate(tmp_path / "run", policy=str(tmp_path / "wide.yaml"))
    code = f"""
import deploykit
from deploykit.config import registries as r
r.LIMITS.entries["max_rounds"] = r.Limit("max_rounds", "{__name__}:max_rounds", "rounds", "bytes")
for name in ("wide", "tight", "wrong"):
    try:
        found = deploykit.gate("run", policy=f"{{name}}.yaml", annotations="none").gate.findings
        print([(one.rule, one.verdict) for one in found])
    except deploykit.BadInput as error:
        print(error)
"""
    told = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(deploykit.__file__).parents[1])},
    )
    assert told.stdout.splitlines() == [
        "[('max_rounds', 'pass')]",
        "[('max_rounds', 'fail')]",
        "wrong.yaml:3: limits.int8: max_rounds: got -1, expected greater than or equal to 0",
    ], told.stderr


def test_limits_are_fields_of_a_policy() -> None:
    from deploykit.config.gate import Limits

    assert list(Limits.model_fields) == list(r.LIMITS)
    assert all(Limits.model_fields[name].description == one.help for name, one in r.LIMITS.items())
    with pytest.raises(BadInput, match="did you mean 'min_top1'"):
        build(Limits, {"min_top_1": 0.5})


def test_a_kind_of_attachment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from deploykit.reporting.attachments.kinds import Content, made

    class Words(Content):
        """Words in order, shown as a table of one column."""

        words: list[str]

        def shown(self, title: str) -> dict[str, object]:
            from deploykit.reporting.attachments.cell_table import Column

            rows = [[word] for word in self.words]
            return {"kind": "table", "columns": [Column(name="word")], "rows": rows, "left_out": 0}

    monkeypatch.setitem(globals(), "Words", Words)
    with pytest.raises(BadInput, match="kind: Input should be 'table'"):
        made("words", "Some words", "train", None, {"words": ["falcon"]})
    monkeypatch.setitem(r.ATTACHMENTS.entries, "words", r.Entry("words", f"{__name__}:Words", "words in order"))
    with pytest.raises(BadInput, match="words: Input should be a valid list"):
        made("words", "Some words", "train", None, {"words": 3})
    found = made("words", "Some words", "train", None, {"words": ["falcon"]})

    from tests.reporting.attachments.test_kinds import written

    written(tmp_path / "run", found)
    again = deploykit.report(tmp_path / "run")
    assert again.files
    assert "falcon" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
