"""Profiles of real engines, layer by layer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploykit.base.errors import BadInput
from deploykit.benchmarking.layer_profiles import layers
from deploykit.reporting.layers import in_words, layer_table


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_model, tiny_onnx, digits_npz) -> Path:
    """A run folder of an engine, of the same unoptimized, and of PyTorch."""
    from deploykit.commands.evaluate import evaluate
    from deploykit.config.evaluate import EvaluateConfig

    folder = tmp_path_factory.mktemp("layers")
    specs = [f"fp32={tiny_onnx}", f"eager={tiny_model}@torch-eager"]
    evaluate(specs, folder / "run", EvaluateConfig(data=str(digits_npz)))
    return folder / "run"


def test_variants_of_a_run_beside_each_other(run, tmp_path):
    found = layers([run], tmp_path / "out")
    (one,) = found.tables
    assert one.columns == ["fp32"]  # PyTorch tells no times of its layers
    names = [row.layer for row in one.rows]
    assert sum("Conv" in name for name in names) == 9  # the stem, six in the blocks, two shortcuts
    assert any(row.ops == "Gemm" for row in one.rows)
    times = [row.us[0] for row in one.rows]
    assert times == sorted(times, reverse=True)
    assert sum(times) == pytest.approx(one.totals_us[0])
    assert sum(row.shares[0] for row in one.rows) == pytest.approx(1)
    assert [path.name for path in found.files] == ["layers.html", "layers.md", "layers.json"]
    assert json.loads((tmp_path / "out/layers.json").read_text())["tables"] == found.to_dict()["tables"]
    assert "<script" not in (tmp_path / "out/layers.html").read_text()
    layers([run], tmp_path / "out")  # ours are replaced
    (tmp_path / "out/layers.md").write_text("mine")
    with pytest.raises(BadInput, match="was not made by deploykit"):
        layers([run], tmp_path / "out")


def test_before_and_after(run, tmp_path):
    found = layers([run, run], tmp_path)
    (one,) = found.tables
    assert (one.title, one.columns) == ("fp32", ["before", "after"])
    assert all(None not in row.us for row in one.rows)  # the same engine has the same layers
    assert "before" in found.summary()


def test_openvino_and_onnx_runtime_have_the_same_layers(tiny_onnx):
    pytest.importorskip("openvino")
    from deploykit.base.spec import parse_spec
    from deploykit.benchmarking.layer_profiles import ELSE, profile

    ours, theirs = (profile(parse_spec(f"{tiny_onnx}@{target}"), 1) for target in ("openvino", "ort-cpu"))
    assert set(ours) == set(theirs)
    assert all(time > 0 for (name, _), time in ours.items() if name != ELSE)


def test_what_cannot_be_profiled_is_refused(run, tmp_path):
    with pytest.raises(BadInput, match="between two run folders"):
        layers([run, run, run], tmp_path)
    with pytest.raises(BadInput, match="is no run folder"):
        layers([tmp_path], tmp_path)


def test_layers_are_matched_by_name_and_sorted():
    before = {("a", "Conv"): 10.0, ("b", "Conv"): 30.0, ("b", "Add"): 5.0}
    after = {("a", "QLinearConv"): 12.0, ("c", ""): 20.0}
    found = layer_table("net", {"before": before, "after": after})
    assert [(row.layer, row.us) for row in found.rows] == [
        ("b", [35.0, None]),
        ("c", [None, 20.0]),
        ("a", [10.0, 12.0]),
    ]
    assert found.rows[2].ops == "Conv, QLinearConv"
    assert found.totals_us == [45.0, 32.0]
    assert in_words(found) == "net: before 45.0 µs, after 32.0 µs; most in b: 35.0 → – µs"
