"""Constant indices that point outside of what they index: builders take them, and the engine reads foreign memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from deploykit.base.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    import onnx

_DEFAULT_AXIS = 0


def refuse_outside_indices(proto: onnx.ModelProto, name: str) -> None:
    """Refuse Gather and GatherElements whose stored indices lie outside a statically known axis.

    Args:
        proto: the graph, below 2 GB; where shapes cannot be inferred nothing is refused.
        name: of the file, for the error.

    Raises:
        BadInput: naming the node, the index and the axis.
    """
    shapes: dict[str, list[int | None]] = {}
    for node, indices in _indexed(proto):
        shapes = shapes or _shapes(proto)
        shape = shapes.get(node.input[0])
        axis = next((one.i for one in node.attribute if one.name == "axis"), _DEFAULT_AXIS)
        if shape is None or not -len(shape) <= axis < len(shape) or indices.size == 0:
            continue
        size = shape[axis]
        if size is None:
            continue
        outside = indices[(indices < -size) | (indices >= size)]
        if outside.size:
            raise BadInput(
                f"{name}: {node.op_type} (node {node.name or node.output[0]}) reads outside of {node.input[0]!r}",
                got=f"index {int(outside.flat[0])} on an axis of {size}",
                expected=f"{-size} to {size - 1}",
                fix="Correct the indices in the model and export it again.",
            )


def _indexed(proto: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, np.ndarray]]:
    from onnx import numpy_helper

    nodes = [node for node in proto.graph.node if node.op_type in ("Gather", "GatherElements")]
    wanted = {node.input[1] for node in nodes}
    stored = {one.name: one for one in proto.graph.initializer if one.name in wanted}
    constants = [node for node in proto.graph.node if node.op_type == "Constant" and node.output[0] in wanted]
    stored |= {node.output[0]: one.t for node in constants for one in node.attribute if one.name == "value"}
    for node in nodes:
        if node.input[1] in stored:
            yield node, numpy_helper.to_array(stored[node.input[1]])


def _shapes(proto: onnx.ModelProto) -> dict[str, list[int | None]]:
    """Tensor → its dimensions, None where unknown."""
    import onnx
    from google.protobuf.message import EncodeError  # type: ignore[import-untyped]

    known: dict[str, list[int | None]] = {one.name: list(one.dims) for one in proto.graph.initializer}
    try:
        graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, ValueError, EncodeError):  # a graph above protobuf's 2 GB
        graph = proto.graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            known.setdefault(value.name, [dim.dim_value if dim.HasField("dim_value") else None for dim in dims])
    return known
