"""int8 files of targets with an engine of their own here, and with a 16-bit rest."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest

from deploykit.base.artifact import read_manifest
from deploykit.base.errors import BadInput
from deploykit.commands.quantize import quantize
from deploykit.config.quantize import QuantizeConfig
from deploykit.engines import open_runner
from tests.listening import Listening

QUICK = {
    "data": "digits",
    "images": 16,
    "select_images": 32,
    "method": "minmax",
    "equalize": "off",
    "bias_correction": "off",
}


@pytest.fixture(scope="module")
def source(trained_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from deploykit.commands.export import export
    from deploykit.config.export import ExportConfig

    path = tmp_path_factory.mktemp("engines") / "net.onnx"
    return export(trained_model, path, ExportConfig(exporter="torchscript", opset=17)).output


def test_an_openvino_file_is_judged_by_openvino(source: Path) -> None:
    pytest.importorskip("openvino")
    made = quantize(source, source.with_name("ov.onnx"), QuantizeConfig(target="openvino", **QUICK))
    assert made.facts["measured"]
    assert made.measured["speedup"] > 0.2
    audit = made.facts["audit"]
    convs = sum(node.op_type == "Conv" for node in onnx.load(source).graph.node)
    assert audit["convs"] == convs
    assert audit["int8_convs"] >= convs - 1
    assert made.facts["parity"]["ok"]
    with open_runner(made.output) as runner:  # its manifest names the target
        assert (runner.target, runner.precision) == ("openvino", "int8")


def test_without_openvino_nothing_is_claimed(
    source: Path, monkeypatch: pytest.MonkeyPatch, listening: Listening
) -> None:
    from deploykit.engines.openvino import compiled_model as loading

    loading.library.cache_clear()
    loading.core.cache_clear()
    monkeypatch.setitem(sys.modules, "openvino", None)
    try:
        config = QuantizeConfig(target="openvino", **QUICK)
        made = quantize(source, source.with_name("ov2.onnx"), config, progress=listening)
    finally:
        loading.library.cache_clear()
        loading.core.cache_clear()
    assert made.facts["measured"] is False
    assert made.measured["speedup"] is None
    assert any(line.startswith("not measured on openvino: ") for line in listening.warned)


def test_the_float_rest_may_be_16_bit(source: Path) -> None:
    made = quantize(source, source.with_name("trt.onnx"), QuantizeConfig(target="tensorrt", precision="fp16", **QUICK))
    graph = onnx.load(made.output).graph
    kinds = {one.name: one.data_type for one in graph.initializer}
    scales = {kinds[node.input[1]] for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    assert scales == {onnx.TensorProto.FLOAT16}
    biases = {kinds[node.input[2]] for node in graph.node if node.op_type == "Conv"}
    assert biases == {onnx.TensorProto.FLOAT16}
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert made.facts["cast"]["precision"] == "fp16"
    assert made.facts["parity"]["ok"]
    manifest = read_manifest(made.output)
    assert manifest is not None
    assert manifest.precision == "int8"


def test_the_16_bit_dialect_builds_in_tensorrt_rtx(source: Path) -> None:
    from tests.quantization.tensorrt_for_tests import engine_bytes

    made = quantize(
        source, source.with_name("rtx.onnx"), QuantizeConfig(target="tensorrt-rtx", precision="fp16", **QUICK)
    )
    assert engine_bytes(onnx.load(made.output)) > 10_000


@pytest.mark.parametrize("target", ["ort-cpu", "openvino"])
def test_16_bits_are_refused_where_they_gain_nothing(source: Path, target: str) -> None:
    config = QuantizeConfig(target=target, precision="fp16", **QUICK)
    with pytest.raises(BadInput, match=f"--precision fp16 for {target}.*compute in float32: leave --precision away"):
        quantize(source, source.with_name("no.onnx"), config)


def test_sensitivity_is_attached_for_the_report(source: Path) -> None:
    from deploykit.reporting.attachments.files import attached

    config = QuantizeConfig(sensitivity=True, force_int8=True, **QUICK)
    made = quantize(source, source.with_name("seen.onnx"), config)
    (found,) = attached(made.output)
    assert (found.kind, found.stage) == ("sensitivity", "quantize")
    layers = found.payload["layers"]
    assert {one["op_type"] for one in layers} == {"Conv", "Gemm"}
    assert len(layers) > 5
    assert layers[0]["scores"]["alone"]["kl"] >= layers[-1]["scores"]["alone"]["kl"]
    quantize(source, made.output, QuantizeConfig(force_int8=True, **QUICK))
    assert attached(made.output) == []
