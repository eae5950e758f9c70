"""Layers that a target's own engine computes otherwise than the file says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from deploykit.commands.quantize import quantize
from deploykit.quantization.calibrate import observe, observed_values
from deploykit.quantization.engine_gap import GAP_DB, close_gap
from deploykit.quantization.qdq.prepare import prepare
from deploykit.quantization.search import Choice, Quantizer
from tests.listening import Listening
from tests.quantization.graphs_for_tests import HERE, Net, opener, pictures, run, snr_db

LAYERS = [f"n_conv_{number}" for number in (0, 2, 4, 6, 8)]
X = pictures(8, seed=3)


@pytest.fixture(scope="module")
def quantizer() -> Quantizer:
    net = Net()
    a = "input"
    for into in (3, 8, 8, 8, 8):
        a = net.add("Relu", [net.conv(a, into, 8)])
    net.gemm(net.add("Flatten", [net.add("GlobalAveragePool", [a])]), 8, 10)
    proto = net.model()
    wide = prepare(proto)
    seen = observe(ir.to_proto(wide), observed_values(wide), [pictures(16)], opener)
    return Quantizer(proto, seen, dialect=HERE["openvino"])


def integer_layers(made: onnx.ModelProto) -> set[str]:
    dequantized = {out for node in made.graph.node if node.op_type == "DequantizeLinear" for out in node.output}
    return {
        node.name for node in made.graph.node if {*node.input[:2]} <= dequantized and node.op_type in ("Conv", "Gemm")
    }


def as_meant(quantizer: Quantizer):
    right = run(quantizer.proto, X)
    return lambda made: snr_db(right, run(made, X, integer_kernels=False))


@pytest.mark.parametrize("wrong", [[], [LAYERS[0]], [LAYERS[3]], ["n_gemm_12"], [LAYERS[1], LAYERS[4]], LAYERS])
def test_the_layers_that_an_engine_gets_wrong_stay_float(
    quantizer: Quantizer, wrong: list[str], listening: Listening
) -> None:
    meant = as_meant(quantizer)

    def engine(made: onnx.ModelProto) -> float:
        return meant(made) - 20 * len(integer_layers(made) & set(wrong))

    choice, gap = close_gap(quantizer, Choice(), engine, meant, listening)
    assert choice.keep_float == set(wrong) == set(gap["layers"])
    assert gap["engine_db"] == pytest.approx(gap["meant_db"] - 20 * len(wrong), abs=0.1)
    assert gap["closed_db"] >= gap["meant_db"] - GAP_DB
    assert bool(wrong) == any(all(layer in line for layer in wrong) for line in listening.said)


def test_what_no_layer_explains_is_said_and_changes_nothing(quantizer: Quantizer, listening: Listening) -> None:
    choice, gap = close_gap(quantizer, Choice(), lambda _: 5.0, as_meant(quantizer), listening)
    assert choice == Choice()
    assert gap["layers"] == []
    assert any("no layer in float changes that" in line for line in listening.warned)


def test_openvino_decides_on_its_own_numbers(tmp_path: Path, listening: Listening) -> None:
    """A head over mean and maximum, which OpenVINO 2026.4 computes wrongly on some CPUs."""
    pytest.importorskip("openvino")
    net = Net(size=32)
    a = net.add("Relu", [net.conv(net.add("Relu", [net.conv("input", 3, 16, stride=2)]), 16, 32, stride=2)])
    axes = net.weight(np.asarray([2, 3], np.int64))
    both = [net.add(op, [a, axes], keepdims=0) for op in ("ReduceMean", "ReduceMax")]
    net.gemm(net.add("Concat", both, axis=1), 64, 10)
    onnx.save(net.model(), tmp_path / "net.onnx")
    options = {"target": "openvino", "data": "digits", "images": 32, "select_images": 32, "size": 32}
    made = quantize(tmp_path / "net.onnx", tmp_path / "int8.onnx", **options, progress=listening)
    gap = made.facts["engine_gap"]
    assert gap["closed_db"] >= gap["meant_db"] - GAP_DB
    assert made.facts["parity"]["snr_db"] > 25
    assert set(gap["layers"]) <= set(made.facts["choice"]["keep_float"])
