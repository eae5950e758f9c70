"""What an ONNX graph of another tool tells by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploykit.base.overrides import NOTHING_STATED, Stated
from deploykit.base.task import task_of_outputs
from deploykit.engines.metadata import of_file
from deploykit.engines.onnx_graph import declared_by

Step = tuple[str, float]


def network(path: Path, steps: list[Step], end: str = "", *, kind: int = TensorProto.FLOAT, nhwc: bool = False) -> Path:
    """An input that goes through ``steps`` by constants, then a convolution and its mean, and ``end``."""
    shape = ["batch", 8, 6, 3] if nhwc else ["batch", 3, 8, 6]
    nodes, stored, at = [], [], "x"
    if kind != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", [at], ["cast"], to=TensorProto.FLOAT))
        at = "cast"
    for number, (op, value) in enumerate(steps):
        stored.append(numpy_helper.from_array(np.full((1,), value, np.float32), f"c{number}"))
        nodes.append(helper.make_node(op, [at, f"c{number}"], [f"s{number}"]))
        at = f"s{number}"
    if nhwc:
        nodes.append(helper.make_node("Transpose", [at], ["turned"], perm=[0, 3, 1, 2]))
        at = "turned"
    stored.append(numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w"))
    nodes.append(helper.make_node("Conv", [at, "w"], ["conv"]))
    nodes.append(helper.make_node("GlobalAveragePool", ["conv"], ["mean"]))
    nodes.append(helper.make_node("Flatten", ["mean"], ["y" if not end else "flat"]))
    if end:
        nodes.append(helper.make_node(end, ["flat"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        stored,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.mark.parametrize(
    ("steps", "values"),
    [
        ([], None),
        ([("Relu", 0)], None),
        ([("Div", 255)], "0…255"),
        ([("Mul", 1 / 255), ("Sub", 0.485), ("Div", 0.229)], "0…255"),
        ([("Sub", 127.5), ("Div", 127.5)], "0…255"),
        ([("Sub", 110)], "0…255"),
        ([("Sub", 0.485), ("Div", 0.229)], "0…1"),
        ([("Mul", 2), ("Sub", 1)], "0…1"),
    ],
)
def test_a_graph_that_normalizes_is_given_what_it_takes(tmp_path: Path, steps: list[Step], values: str | None) -> None:
    path = network(tmp_path / "n.onnx", [one for one in steps if one[0] != "Relu"])
    known = of_file(path, declared_by(path), NOTHING_STATED)
    assert known.preprocessing is not None
    assert (known.preprocessing.shape, known.preprocessing.mean) == ((3, 8, 6), (0, 0, 0))
    np.testing.assert_allclose(known.preprocessing.std, 1 / 255 if values == "0…255" else 1)
    assert known.preprocessing.assumed is (values is None)
    assert len(known.notes) == (values is None)
    stated = of_file(path, declared_by(path), Stated(mean=(0.1,), std=(0.2,))).preprocessing
    assert stated is not None
    assert (stated.mean, stated.std, stated.assumed) == ((0.1,) * 3, (0.2,) * 3, False)


@pytest.mark.parametrize("nhwc", [False, True])
def test_bytes_are_normalized_inside(tmp_path: Path, nhwc: bool) -> None:
    path = network(tmp_path / "n.onnx", [("Div", 255)], kind=TensorProto.UINT8, nhwc=nhwc)
    known = of_file(path, declared_by(path), NOTHING_STATED)
    assert known.preprocessing is not None
    assert known.preprocessing.embedded
    assert (known.preprocessing.layout, known.preprocessing.size) == ("NHWC" if nhwc else "NCHW", (8, 6))
    assert known.notes == ()


def test_an_end_in_a_sigmoid_is_several_answers(tmp_path: Path) -> None:
    plain, several = (
        declared_by(network(tmp_path / f"{end or 'plain'}.onnx", [], end)).outputs for end in ("", "Sigmoid")
    )
    assert not plain[0].sigmoid
    assert task_of_outputs(plain) == "classify"
    assert several[0].sigmoid
    assert task_of_outputs(several) == "none"
    assert task_of_outputs([*plain, *plain]) == "none"
