"""A network cut where a single activation carries it."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from deploykit.quantization.qdq.graph import narrow_points

HELD_BYTES = 512 << 20


def starts(
    proto: onnx.ModelProto, names: Sequence[str], images: int, held_bytes: int = HELD_BYTES
) -> list[tuple[str, list[str]]]:
    """Where to start for each of the nodes ``names``: the last narrow place before it that may be held in memory.

    Returns:
        In topological order: name of the activation (empty: the network's own input) and the nodes that start there.
    """
    graph = ir.from_proto(proto).graph
    order = [node.name or "" for node in graph]
    places: list[tuple[str, frozenset[str]]] = [("", frozenset())]
    for node, before in narrow_points(graph):
        size = _bytes_an_image(node.outputs[0])
        if size is not None and size * images <= held_bytes:
            places.append((node.outputs[0].name or "", before))
    found: dict[str, list[str]] = {}
    for name in sorted(names, key=order.index):
        start = max((place for place in places if name not in place[1]), key=lambda place: len(place[1]))[0]
        found.setdefault(start, []).append(name)
    return list(found.items())


def _bytes_an_image(value: ir.Value) -> int | None:
    if value.shape is None:
        return None
    size = 4
    for dim in list(value.shape)[1:]:
        if not isinstance(dim, int):
            return None
        size *= dim
    return size


def segment(proto: onnx.ModelProto, first: str, last: str) -> onnx.ModelProto:
    """The part of a network from activation ``first`` (empty: its input) to ``last`` (empty: its outputs).

    Metadata, which describe the whole network, are left out.
    """
    model = ir.from_proto(proto)
    graph = model.graph
    values = {value.name: value for node in graph for value in node.outputs}
    if last:
        graph.outputs.clear()
        graph.outputs.append(values[last])
    if first:
        old = values[first]
        new = ir.Value(name=f"{first}.held", shape=old.shape, type=old.type)
        old.replace_all_uses_with(new)
        graph.inputs.clear()
        graph.inputs.append(new)
    model.metadata_props.clear()
    return ir.to_proto(common.RemoveUnusedNodesPass()(model).model)
