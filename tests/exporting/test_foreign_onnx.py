"""Files of other tools become float32 graphs of a newer opset, and are run beside what they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploykit.base.errors import BadInput
from deploykit.engines import open_runner
from deploykit.exporting.describe_onnx import describe_onnx
from deploykit.exporting.foreign_onnx import standard_file
from tests.engines.onnx_for_tests import quantized_net, small_net
from tests.listening import Listening


def old_net(path: Path, opset: int, ir: int, extra: str = "") -> Path:
    """What changed between opsets, as tools wrote it then: Clip and Pad by attributes, Dropout, Squeeze and Slice by axes."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((8, 3, 3, 3)).astype(np.float32),
        "m": rng.standard_normal((8, 4)).astype(np.float32),
    }
    pads = [0, 0, 1, 1, 0, 0, 1, 1]
    if opset < 11:
        pad, clip = ("input",), [helper.make_node("Clip", ["c"], ["r"], "clip", min=0.0, max=6.0)]
        nodes = [helper.make_node("Pad", list(pad), ["p"], "pad", pads=pads)]
    else:
        weights |= {"pads": np.array(pads), "lo": np.float32(0), "hi": np.float32(6)}
        nodes = [helper.make_node("Pad", ["input", "pads"], ["p"], "pad")]
        clip = [helper.make_node("Clip", ["c", "lo", "hi"], ["r"], "clip")]
    nodes += [
        helper.make_node("Conv", ["p", "w"], ["c"], "conv"),
        *clip,
        helper.make_node("Dropout", ["r"], ["d"], "drop"),
        helper.make_node("GlobalAveragePool", ["d"], ["g"], "pool"),
        helper.make_node("Squeeze", ["g"], ["s"], "squeeze", axes=[2, 3]),
        helper.make_node("MatMul", ["s", "m"], ["f"], "head"),
        helper.make_node("Softmax", ["f"], ["output"], "soft"),
    ]
    if extra:
        nodes.insert(0, helper.make_node(extra, ["input"], ["unused"], "odd", domain="odd"))
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 8, 8])]
    if ir < 4:
        inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, one.shape) for name, one in weights.items()]
    stored = [numpy_helper.from_array(np.asarray(one), name) for name, one in weights.items()]
    out = [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 4])]
    graph = helper.make_graph(nodes, "old", inputs, out, stored)
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid("odd", 1)] if extra else [])]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=ir), path)
    return path


def answers(path: Path) -> np.ndarray:
    x = np.random.default_rng(1).standard_normal((3, 3, 8, 8)).astype(np.float32)
    with open_runner(f"{path}@ort-cpu", threads=1) as runner:
        return runner(x.astype(runner.inputs[0].dtype))


@pytest.mark.parametrize(("opset", "ir"), [(7, 3), (9, 3), (10, 5), (11, 6), (12, 7)])
def test_older_opsets_are_converted_and_compute_the_same(
    tmp_path: Path, opset: int, ir: int, listening: Listening
) -> None:
    source = old_net(tmp_path / "old.onnx", opset, ir)
    before = source.read_bytes()
    made = standard_file(source, tmp_path, progress=listening)
    model = onnx.load(made)
    assert made != source
    assert model.opset_import[0].version >= 13
    assert model.ir_version >= 4
    np.testing.assert_allclose(answers(made), answers(source), atol=1e-6)
    assert source.read_bytes() == before
    assert f"opset {opset} is converted to 13" in listening.said[-1]


def test_a_newer_float_file_and_an_integer_one_stay_as_they_are(tmp_path: Path) -> None:
    for source in (small_net(tmp_path / "n.onnx"), quantized_net(tmp_path / "q.onnx")):
        assert standard_file(source, tmp_path) == source


def test_an_operator_of_another_maker_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        standard_file(old_net(tmp_path / "old.onnx", 11, 6, extra="Mystery"), tmp_path)
    assert "Mystery" in caught.value.line()


@pytest.mark.parametrize("keep_io", [False, True])
def test_half_precision_is_taken_up_to_float32(tmp_path: Path, keep_io: bool, listening: Listening) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    source = tmp_path / "half.onnx"
    half = convert_float_to_float16(onnx.load(small_net(tmp_path / "n.onnx")), keep_io_types=keep_io)
    onnx.save(half, source)
    made = standard_file(source, tmp_path, progress=listening)
    graph = onnx.load(made).graph
    kinds = {one.data_type for one in graph.initializer}
    assert kinds == {TensorProto.FLOAT}
    assert {one.type.tensor_type.elem_type for one in (*graph.input, *graph.output)} == {TensorProto.FLOAT}
    assert "Cast" not in {node.op_type for node in graph.node}
    assert describe_onnx(made)[0]["precision"] == {"fp32": 2}
    np.testing.assert_allclose(answers(made), answers(tmp_path / "n.onnx"), atol=2e-2)
    assert "it is fp16" in listening.said[-1]


def test_a_half_graph_with_constants_and_casts_inside_is_taken_up(tmp_path: Path) -> None:
    path = small_net(tmp_path / "n.onnx", kind=np.float16)
    model = onnx.load(path)
    weight = next(one for one in model.graph.initializer if one.name == "w")
    constant = helper.make_node("Constant", [], ["w"], value=weight)
    model.graph.initializer.remove(weight)
    to = [helper.make_node("Cast", ["output.0"], ["output"], to=TensorProto.FLOAT16)]
    model.graph.node[-1].output[0] = "output.0"
    onnx.save(
        helper.make_model(
            helper.make_graph(
                [constant, *model.graph.node, *to], "g", model.graph.input, model.graph.output, model.graph.initializer
            ),
            opset_imports=model.opset_import,
            ir_version=10,
        ),
        path,
    )
    made = onnx.load(standard_file(path, tmp_path))
    assert all(
        one.t.data_type == TensorProto.FLOAT
        for node in made.graph.node
        for one in node.attribute
        if node.op_type == "Constant"
    )
    assert [node.op_type for node in made.graph.node][-1] == "Identity"


def test_weights_that_are_turned_in_the_graph_are_stored_turned(tmp_path: Path, listening: Listening) -> None:
    model = onnx.load(small_net(tmp_path / "n.onnx"))
    weight = next(one for one in model.graph.initializer if one.name == "w")
    kept = numpy_helper.to_array(weight)
    weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(kept.transpose(2, 3, 1, 0)), "hwio"))
    model.graph.node.insert(0, helper.make_node("Transpose", ["hwio"], ["w"], "turn", perm=[3, 2, 0, 1]))
    onnx.save(model, tmp_path / "tf.onnx")
    made = standard_file(tmp_path / "tf.onnx", tmp_path, progress=listening)
    graph = onnx.load(made).graph
    assert "Transpose" not in {node.op_type for node in graph.node}
    np.testing.assert_array_equal(
        numpy_helper.to_array(next(one for one in graph.initializer if one.name == "w")), kept
    )
    np.testing.assert_array_equal(answers(made), answers(tmp_path / "n.onnx"))
    assert "1 weights" in listening.said[-1]
