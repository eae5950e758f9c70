"""Kernels of graphs whose shapes are computed while they run: guessed, never a crash."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from deploykit.quantization.kernels import kernels


def test_ranks_behind_a_computed_reshape_are_guessed() -> None:
    weights = {
        "w": np.zeros((8, 3, 3, 3), np.float32),
        "m": np.zeros((8, 16), np.float32),
        "at": np.array(0),
        "rest": np.array([8, -1]),
        "axis": np.array([0]),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("Shape", ["c"], ["s"], "shape"),
        helper.make_node("Gather", ["s", "at"], ["n"], "batch"),
        helper.make_node("Unsqueeze", ["n", "axis"], ["n1"], "up"),
        helper.make_node("Concat", ["n1", "rest"], ["to"], "sizes", axis=0),
        helper.make_node("Reshape", ["c", "to"], ["r"], "reshape"),
        helper.make_node("Unsqueeze", ["r", "axis"], ["u"], "rows"),
        helper.make_node("Unsqueeze", ["u", "axis"], ["v"], "more"),
        helper.make_node("Transpose", ["v"], ["t"], "turn", perm=[0, 1, 4, 2, 3]),
        helper.make_node("MatMul", ["t", "m"], ["y"], "head"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(one, name) for name, one in weights.items()],
    )
    found = {one.name: one for one in kernels(helper.make_model(graph), (3, 10, 12))}
    assert found.keys() == {node.name for node in nodes}
    assert found["conv"].macs >= 8 * 8 * 10 * 27
    assert found["head"].kind == "f32 product"
