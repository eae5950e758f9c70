"""Indices that point outside are refused before any builder sees them, with the node named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploykit.base.errors import BadInput
from deploykit.commands.build import build
from deploykit.config.build import BuildConfig
from deploykit.exporting.check_onnx import refuse_outside_indices
from tests.quantization.graphs_for_tests import run


def gathering(indices: list[int], *, axis: int = 1, op: str = "Gather", constant: bool = False) -> onnx.ModelProto:
    """[batch, 6, 4] → relu → those of axis ``axis``."""
    values = np.array(indices, np.int64)
    if op == "GatherElements":
        values = values.reshape(1, -1, 1)
    stored = numpy_helper.from_array(values, "wanted")
    nodes = [helper.make_node("Relu", ["x"], ["y"], name="relu")]
    if constant:
        nodes.append(helper.make_node("Constant", [], ["wanted"], value=stored))
    nodes.append(helper.make_node(op, ["y", "wanted"], ["z"], name="pick", axis=axis))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6, 4])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [] if constant else [stored],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("indices", [[0, 5, -6], [], [-1]])
def test_indices_inside_are_taken(indices: list[int]) -> None:
    proto, x = gathering(indices), np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    refuse_outside_indices(proto, "m.onnx")
    np.testing.assert_array_equal(run(proto, x, "x"), np.take(x.clip(0), np.array(indices, np.int64), axis=1))


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("op", ["Gather", "GatherElements"])
@pytest.mark.parametrize("outside", [6, -7, 2**40])
def test_an_index_outside_is_refused(outside: int, op: str, constant: bool) -> None:
    with pytest.raises(BadInput, match=rf"m.onnx: {op} \(node pick\) reads outside of 'y'.*index {outside} on an axis"):
        refuse_outside_indices(gathering([1, outside], op=op, constant=constant), "m.onnx")


def test_an_axis_of_unknown_size_is_not_judged() -> None:
    proto = gathering([9], axis=0)
    refuse_outside_indices(proto, "m.onnx")
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 6
    with pytest.raises(BadInput, match="index 9 on an axis of 6"):
        refuse_outside_indices(proto, "m.onnx")


@pytest.mark.parametrize("target", ["tensorrt-rtx", "ort-cpu"])
def test_a_build_refuses_them_for_every_target(target: str, tmp_path: Path) -> None:
    onnx.save(gathering([1, 2**40]), str(tmp_path / "m.onnx"))
    with pytest.raises(BadInput, match="reads outside"):
        build(tmp_path / "m.onnx", config=BuildConfig(target=target))
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
