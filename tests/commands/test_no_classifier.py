"""Networks whose outputs are no classes go through quantize, export --precision and verify, and are judged by SNR alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploykit.base.artifact import read_manifest
from deploykit.base.errors import BadInput
from deploykit.commands.export import export
from deploykit.commands.quantize import quantize
from deploykit.commands.verify import verify

QUICK = {"data": "digits", "images": 32, "method": "minmax", "size": 32}


class Net:
    """A float graph on ``[batch, 3, 32, 32]`` in the making: two convolutions, then what a test adds."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(0)
        self.body = self.conv(self.conv("x", 3, 16, 3, stride=2, relu=True), 16, 32, 3, stride=2, relu=True)

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"{op}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def tensor(self, values: np.ndarray) -> str:
        name = f"tensor{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(values, name))
        return name

    def conv(self, x: str, ins: int, outs: int, size: int = 1, *, stride: int = 1, relu: bool = False) -> str:
        scale = 1.4 / np.sqrt(ins * size * size)
        weight = self.tensor((self.random.normal(size=(outs, ins, size, size)) * scale).astype(np.float32))
        bias = self.tensor(self.random.normal(size=outs).astype(np.float32) * 0.1)
        pad = size // 2
        made = self.add("Conv", x, weight, bias, strides=[stride, stride], pads=[pad] * 4, kernel_shape=[size, size])
        return self.add("Relu", made) if relu else made

    def pooled(self, outs: int) -> str:
        flat = self.add("Flatten", self.add("GlobalAveragePool", self.body))
        weight = self.tensor(self.random.normal(size=(32, outs)).astype(np.float32))
        return self.add("Gemm", flat, weight, self.tensor(np.zeros(outs, np.float32)))

    def save(self, path: Path, *outputs: str) -> Path:
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 32, 32])
        graph = helper.make_graph(self.nodes, "net", [x], values, self.tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.save(onnx.shape_inference.infer_shapes(model), path)
        return path


def heatmap(path: Path) -> Path:
    net = Net()
    return net.save(path, net.add("Sigmoid", net.conv(net.body, 32, 1)))


def boxes_and_scores(path: Path) -> Path:
    """``[N, 7, 64]``: four coordinates of some hundred pixels, three scores that are mostly tiny."""
    net = Net()
    boxes = net.add("Mul", net.add("Relu", net.conv(net.body, 32, 4)), net.tensor(np.float32(300)))
    scores = net.add("Sigmoid", net.add("Add", net.conv(net.body, 32, 3), net.tensor(np.float32(-4))))
    flat = [net.add("Reshape", one, net.tensor(np.array([0, count, -1]))) for one, count in ((boxes, 4), (scores, 3))]
    return net.save(path, net.add("Concat", *flat, axis=1))


def two_heads(path: Path) -> Path:
    net = Net()
    return net.save(path, net.pooled(5), net.pooled(3))


def one_logit(path: Path) -> Path:
    net = Net()
    return net.save(path, net.pooled(1))


def map_and_logits(path: Path) -> Path:
    net = Net()
    return net.save(path, net.conv(net.body, 32, 4), net.pooled(6))


def labels(path: Path) -> Path:
    net = Net()
    return net.save(path, net.add("Sigmoid", net.pooled(6)))


NETS = (labels, heatmap, boxes_and_scores, two_heads, one_logit, map_and_logits)


@pytest.mark.parametrize("make", NETS)
def test_it_is_quantized_and_judged_by_snr_alone(make, tmp_path: Path) -> None:
    source = make(tmp_path / "net.onnx")
    made = quantize(source, **QUICK)
    verdict = made.facts["verdict"]
    assert (made.status, made.exit_code) == ("ok", 0)
    assert verdict["snr_db"] > 10
    assert verdict["confident"] is None
    assert (verdict["agreement"] is not None) == (make is labels)  # its decisions at 0.5, shown
    assert "dB" in made.summary()
    assert quantize(source, **QUICK).exit_code == 0
    again = verify(source, made.output, data="digits", size=32)
    assert again.exit_code == 0
    assert again.verdict.to_dict()["snr_db"] == pytest.approx(verdict["snr_db"])
    assert (again.verdict.images, again.verdict.split) == (verdict["images"], verdict["split"])


@pytest.mark.parametrize("make", NETS)
def test_it_is_cast(make, tmp_path: Path) -> None:
    made = export(make(tmp_path / "net.onnx"), precision="fp16", data="digits", images=16, size=32)
    assert made.exit_code == 0
    assert made.facts["verdict"]["snr_db"] > 40
    assert "dB" in made.summary()
    json.dumps(made.to_dict(), allow_nan=False)


def test_scores_that_are_all_zero_fail_beside_boxes_that_hold(tmp_path: Path) -> None:
    source = boxes_and_scores(tmp_path / "net.onnx")
    model = onnx.load(source)
    last = model.graph.node[-1]
    shown = numpy_helper.from_array(np.array([1, 1, 1, 1, 0, 0, 0], np.float32).reshape(1, 7, 1), "shown")
    model.graph.initializer.append(shown)
    model.graph.node.append(helper.make_node("Mul", ["all", "shown"], [last.output[0]]))
    last.output[0] = "all"
    onnx.save(model, tmp_path / "zero.onnx")
    found = verify(source, tmp_path / "zero.onnx", data="digits", size=32, precision="int8")
    assert (found.status, found.exit_code) == ("failed", 1)
    assert found.parity.cosine is not None
    assert found.parity.cosine > 0.99
    assert [one["channels"] for one in found.parity.groups if not one["identical"]] == ["4-6"]
    assert "channels 4-6" in found.verdict.reasons[0]


def test_what_fails_is_kept_with_its_verdict_and_can_be_accepted(tmp_path: Path) -> None:
    source = heatmap(tmp_path / "net.onnx")
    failed = quantize(source, min_snr_db=120, **QUICK)
    assert (failed.status, failed.exit_code, failed.made) == ("failed", 1, True)
    assert failed.output.is_file()
    manifest = read_manifest(failed.output)
    assert manifest is not None
    assert manifest.facts["verdict"]["status"] == "failed"
    same = quantize(source, min_snr_db=120, **QUICK)
    assert (same.status, same.exit_code, same.made) == ("failed", 1, False)
    assert "expected at least 120 dB" in same.summary()
    accepted = quantize(source, min_snr_db=120, accept=True, **QUICK)
    assert (accepted.status, accepted.exit_code, accepted.made) == ("failed", 0, False)
    assert accepted.to_dict()["verdict"]["accepted"]
    assert quantize(source, **QUICK).exit_code == 0  # by the usual bars nothing was ever wrong


def test_what_has_no_row_for_each_image_is_left_out_or_refused(tmp_path: Path, listening) -> None:
    net = Net()
    whole = net.add("ReduceMean", net.body, keepdims=0)
    both = net.save(tmp_path / "both.onnx", net.pooled(6), whole)
    made = quantize(both, progress=listening, **QUICK)
    assert any("have no row for each image: ReduceMean" in line for line in listening.warned)
    assert {one["output"] for one in verify(both, made.output, data="digits", size=32).parity.groups} == {"Gemm7"}
    alone = net.save(tmp_path / "alone.onnx", whole)
    for command in (lambda: quantize(alone, **QUICK), lambda: verify(alone, alone, data="digits", size=32)):
        with pytest.raises(BadInput, match="no output with a row for each image"):
            command()
