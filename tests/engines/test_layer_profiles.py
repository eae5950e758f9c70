"""The layers that really run: their time, the nodes of the file that each does, and the Q and DQ left between them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploykit.base.errors import BadInput
from deploykit.base.overrides import Stated
from deploykit.engines import open_runner
from deploykit.engines.onnxruntime.profile import origins
from tests.engines.onnx_for_tests import one_node, quantized_net, save, small_net

TARGETS = ("ort-cpu", "openvino")


def pictures(n: int = 2) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("target", TARGETS)
def test_every_node_of_the_file_belongs_to_one_layer(tmp_path: Path, target: str) -> None:
    path = small_net(tmp_path / "n.onnx")
    with open_runner(f"{path}@{target}", threads=1, stated=Stated((8, 8))) as runner:
        rows = runner.timed_layers(pictures())
    done = [node for row in rows for node in row["nodes"]]
    assert len(done) == len(set(done))
    assert {"conv", "relu", "pool"} <= set(done)
    conv = next(row for row in rows if "conv" in row["nodes"])
    assert "relu" in conv["nodes"]  # fused
    assert conv["precision"] == "fp32"
    assert [conv["shape"][place] for place in (0, 2, 3)] == [2, 8, 8]  # its channels may be padded
    assert all(row["time_us"] >= 0 for row in rows)
    assert sum(row["time_us"] for row in rows) > 0


def test_a_sum_and_its_relu_belong_to_the_convolution_that_does_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal((16, 3, 3, 3)).astype(np.float32), "w1"),
        numpy_helper.from_array(rng.standard_normal((16, 16, 3, 3)).astype(np.float32), "w2"),
    ]
    nodes = [
        helper.make_node("Conv", ["input", "w1"], ["a"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "w2"], ["b"], "second", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["a", "b"], ["c"], "sum"),
        helper.make_node("Relu", ["c"], ["output"], "relu"),
    ]
    path = save(
        tmp_path / "residual.onnx",
        nodes,
        weights,
        ("input", TensorProto.FLOAT, ["batch", 3, 8, 8]),
        ("output", TensorProto.FLOAT, ["batch", 16, 8, 8]),
    )
    with open_runner(f"{path}@ort-cpu", threads=1, stated=Stated((8, 8))) as runner:
        rows = [row["nodes"] for row in runner.timed_layers(pictures()) if row["nodes"]]
    assert rows == [["first"], ["second", "sum", "relu"]]


def test_unfused_nodes_come_from_themselves(tmp_path: Path) -> None:
    graph = onnx.load(small_net(tmp_path / "n.onnx")).graph
    assert origins(graph, graph) == {node.name: [node.name] for node in graph.node}


def test_a_node_of_several_outputs_belongs_to_one_layer(tmp_path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(str(small_net(tmp_path / "n.onnx")), str(tmp_path / "d.onnx"))
    with open_runner(tmp_path / "d.onnx", threads=1, stated=Stated((8, 8))) as runner:
        rows = runner.timed_layers(pictures())
    conv = next(row for row in rows if row["type"] == "ConvInteger")
    assert (conv["precision"], len(conv["nodes"])) == ("int8", 1)
    done = [node for row in rows for node in row["nodes"]]
    assert len(done) == len(set(done))


@pytest.mark.parametrize("target", TARGETS)
def test_q_and_dq_left_are_named_with_what_keeps_them(tmp_path: Path, target: str) -> None:
    path = quantized_net(tmp_path / "q.onnx")  # TensorRT's dialect: no Q behind the convolution
    with open_runner(f"{path}@{target}", threads=1, stated=Stated((8, 8))) as runner:
        left = runner.audit()["qdq_left"]
    if target == "openvino":  # takes the convolution on integers nevertheless
        assert [(one["name"], one["needed"]) for one in left] == [("q", True)]
        return
    assert {one["name"]: one["why"] for one in left} == {
        "q": "the picture comes in float",
        "dq": "FusedConv reads in float",
        "wdq": "stored integers, which FusedConv reads in float",
    }
    assert [one["beside"] for one in left if one["name"] == "dq"] == [["conv", "relu"]]


@pytest.mark.parametrize("target", TARGETS)
def test_a_whole_integer_network_leaves_only_its_border(tmp_path: Path, target: str) -> None:
    path = quantized_net(tmp_path / "q.onnx", kind=np.uint8)
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "r"
    model.graph.node.extend(
        [
            helper.make_node("QuantizeLinear", ["r", "s", "z"], ["rq"], "out.q"),
            helper.make_node("DequantizeLinear", ["rq", "s", "z"], ["output"], "out.dq"),
        ]
    )
    onnx.save(model, path)
    with open_runner(f"{path}@{target}", threads=1, stated=Stated((8, 8))) as runner:
        told = runner.audit()
        rows = runner.timed_layers(pictures())
    assert told["int8_convs"] == 1
    if target == "openvino":  # whose convolution writes the float answer itself
        assert [(one["name"], one["needed"]) for one in told["qdq_left"]] == [("q", True)]
        return
    assert [(one["name"], one["needed"]) for one in told["qdq_left"]] == [("q", True), ("out.dq", True)]
    assert next(row for row in rows if row["type"] == "QLinearConv")["precision"] == "int8"


def _network(path: Path):
    pytest.importorskip("tensorrt_rtx")
    from deploykit.engines.tensorrt.network import describe_network
    from deploykit.engines.tensorrt.parse import parse
    from deploykit.engines.tensorrt.version import load

    api = load("tensorrt-rtx")
    parsed = parse(api, path)
    return describe_network(api, parsed.network)


def test_tensorrt_expects_every_pair_of_its_dialect_to_fuse(tmp_path: Path) -> None:
    left = _network(quantized_net(tmp_path / "q.onnx"))["qdq_left"]
    assert [(one["nodes"], one["why"]) for one in left] == [(["q"], "the picture comes in float")]


def test_tensorrt_names_pairs_that_fuse_with_nothing(tmp_path: Path) -> None:
    path = quantized_net(tmp_path / "q.onnx")
    model = onnx.load(path)
    graph = model.graph
    for node in graph.node:  # the convolution reads its picture unrounded: the DQ of its weight has nothing to join
        if node.name == "conv":
            node.input[0] = "input"
    graph.node[-1].output[0] = "r"
    graph.node.extend(
        [
            helper.make_node("QuantizeLinear", ["r", "s", "z"], ["rq"], "out.q"),
            helper.make_node("DequantizeLinear", ["rq", "s", "z"], ["rd"], "out.dq"),
            helper.make_node("Softmax", ["rd"], ["output"], "softmax", axis=1),
        ]
    )
    onnx.save(model, path)
    left = {one["nodes"][0]: one for one in _network(path)["qdq_left"]}
    assert left["wdq"]["why"] == "stored integers, which convolution reads in float"
    assert left["wdq"]["beside"] == ["conv"]
    assert left["out.dq"]["why"] == "softmax reads in float"
    assert "out.q" not in left  # the kernel of the Relu rounds


def test_the_q_and_dq_of_a_built_engine_are_named_with_what_stands_around_them() -> None:
    from deploykit.engines.tensorrt.audit import summarize

    def layer(name: str, kind: str, given: str, made: str, **more: str) -> dict:
        tensors = {"Inputs": [{"Name": given, "Format": "Half"}], "Outputs": [{"Name": made, "Format": "Half"}]}
        return {"Name": name, "LayerType": kind, **tensors, **more}

    layers = [
        layer("q", "Reformat", "input", "a", Origin="QDQ", Metadata="[ONNX Layer: input.q]"),
        layer("conv", "CaskConvolution", "a", "b", Metadata="[ONNX Layer: conv]"),
        layer("kernel", "kgen", "b", "c", Metadata="[ONNX Layer: b.q]\x1e[ONNX Layer: b.dq]"),
        layer("softmax", "SoftMax", "c", "d"),
        layer("copy", "Reformat", "d", "e", Origin="REFORMAT"),
    ]
    left = summarize(layers, {"input.q", "b.q", "b.dq"})["qdq_left"]
    assert [(one["name"], one["needed"]) for one in left] == [("q", True), ("kernel", False)]
    assert left[1]["why"] == "a kernel of its own between CaskConvolution in fp16 → it → SoftMax in fp16"
    assert left[1]["beside"] == ["conv"]


@pytest.mark.parametrize("target", TARGETS)
def test_operators_that_an_engine_does_not_know_are_named_with_their_nodes(tmp_path: Path, target: str) -> None:
    path = one_node(tmp_path / "own.onnx", "Foo", 2, "mine")
    with pytest.raises(BadInput, match=r"does not know: Foo \(node bad0\).*Replace them by standard ONNX operators"):
        open_runner(f"{path}@{target}", threads=1, stated=Stated((8, 8)))
