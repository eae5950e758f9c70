"""Benchmarks without data: any graph is timed on random input, and compared where outputs fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from deploykit.base.errors import BadInput
from deploykit.commands.benchmark import benchmark
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.reporting import read_report
from tests.engines.onnx_for_tests import counting_net, pair_net, quantized_net, small_net

QUICK = {"max_time_s": 0.5, "min_blocks": 2, "block_ms": 2.0, "until": 0.5}


def changed(path: Path, weight: str, copy: Path) -> Path:
    """A copy of a file with one weight that is another."""
    model = onnx.load(path)
    one = next(one for one in model.graph.initializer if one.name == weight)
    one.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(one) + 1, weight))
    onnx.save(model, copy)
    return copy


def test_a_graph_of_several_inputs_is_timed_compared_and_reported(tmp_path: Path) -> None:
    path = pair_net(tmp_path / "pair.onnx")
    specs = [f"a={path}", f"wrong={changed(path, 'fw', tmp_path / 'w.onnx')}"]
    specs += [f"other={small_net(tmp_path / 'n.onnx', batch=2)}"]
    folder = tmp_path / "run"
    config = BenchmarkConfig(shapes={"right": (2, 3, 5, 12)}, **QUICK)
    with pytest.raises(BadInput, match="right"):  # the third has no such input
        benchmark(specs, folder, config)
    result = benchmark(specs[:2], folder, config)
    report = read_report(folder)
    found = {one.name: one for one in report.variants}
    assert (report.task, report.data, report.pick) == ("none", None, None)
    assert any("no variant is picked" in one for one in report.warnings)
    assert [one.accuracy for one in report.variants] == [None, None]
    assert {(one.timed, one.batch) for one in found["a"].measurements} == {("compute", 2), ("end_to_end", 2)}
    assert found["wrong"].status == "failed"
    assert not found["wrong"].parity.ok
    assert found["wrong"].measurements
    assert found["wrong"].speedup.low is None or found["wrong"].speedup.low <= found["wrong"].speedup.high
    assert any("right [2, 3, 5, 12] uint8" in note for note in found["a"].notes)
    assert not result.ok
    manifest = json.loads((folder / "report.json.manifest.json").read_text())
    assert [one["role"] for one in manifest["parents"]] == ["artifact", "artifact"]
    assert "timed on random input" in (folder / "report.html").read_text()
    assert "random input" in (folder / "report.md").read_text()


def test_outputs_that_do_not_fit_are_timed_and_said(tmp_path: Path) -> None:
    specs = [f"a={small_net(tmp_path / 'a.onnx', batch=4)}", f"b={counting_net(tmp_path / 'b.onnx')}"]
    report = benchmark(specs, None, BenchmarkConfig(**QUICK)).report
    first, second = report.variants
    assert {one.batch for one in first.measurements} == {4}  # its only one
    assert second.status == "ok"
    assert second.parity is None
    assert any(note.startswith("not compared with a") for note in second.notes)
    assert second.speedup is not None


def test_a_model_file_is_timed_without_data_too(tiny_model: Path, tiny_onnx: Path) -> None:
    report = benchmark([f"eager={tiny_model}", f"fp32={tiny_onnx}"], None, BenchmarkConfig(**QUICK)).report
    eager, fp32 = report.variants
    assert (eager.status, fp32.status, fp32.parity.reference) == ("ok", "ok", "eager")
    assert fp32.parity.snr_db is None or fp32.parity.snr_db > 100
    assert fp32.macs == eager.macs > 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "--shape right:1x3x640x12"),
        ({"shapes": {"right": (1, 3, 5, 12), "left": (1, 3, 9, 8)}}, "contradicts"),
        ({"shapes": {"right": (2, 3, 5, 12)}, "batch": 3}, "--batch"),
        ({"metrics": ("m:f",)}, "--data"),
        ({"corruptions": True}, "--data"),
        ({"shapes": {"right": (1, 3, 5, 12)}, "data": "digits"}, "--shape"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, fields, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        benchmark([str(pair_net(tmp_path / "pair.onnx"))], None, BenchmarkConfig(**fields, **QUICK))
    assert words in caught.value.line()


def test_variants_of_unlike_batches_are_refused(tmp_path: Path) -> None:
    specs = [f"a={small_net(tmp_path / 'a.onnx', batch=4)}", f"b={small_net(tmp_path / 'b.onnx', batch=2)}"]
    with pytest.raises(BadInput) as caught:
        benchmark(specs, None, BenchmarkConfig(**QUICK))
    assert {"2", "4"} <= set(caught.value.line().replace(".", " ").replace(":", " ").split())


def test_int8_that_parts_on_noise_is_unsure_not_failed(tmp_path: Path) -> None:
    path = quantized_net(tmp_path / "n.onnx")
    specs = [f"a={path}", f"b={changed(path, 'ws', tmp_path / 'r.onnx')}"]
    second = benchmark(specs, None, BenchmarkConfig(**QUICK)).report.variants[1]
    assert second.status == "unsure"
    assert np.isfinite(second.speedup.estimate)
