"""Cross-layer equalization: rescale channels between two layers so that both quantize well; the function is kept.

Where every operator between two layers is positively homogeneous, ``f(x/s) = f(x)/s`` for ``s > 0``, channel ``i`` of
the first layer may be divided by ``s_i`` and the weights of the second that read it multiplied by ``s_i`` (Nagel et
al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1). With
``s_i = √(r1_i / r2_i)`` of the two weight ranges both become ``√(r1_i r2_i)``; chains are iterated until nothing moves.

An upper bound as in ReLU6 is scaled with its channel: ``min(x, b)/s = min(x/s, b/s)``, so it becomes one bound a
channel, ``Relu`` then ``Min`` with ``[1, C, 1, 1]``. Where bounds of a channel differ already, dividing by them brings
one common ``Clip`` back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from deploykit.quantization.qdq.graph import attribute, constant, new_constant, new_node, only_reader
from deploykit.quantization.schemes import TINY

HOMOGENEOUS = ("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Min", "Clip", "Flatten")
ROUNDS = 100
SETTLED = 1e-3
LARGEST = 2.0**20


@dataclass(frozen=True)
class Link:
    """Two layers between which channels may be rescaled.

    ``first``: Conv that makes the channels. ``between``: homogeneous operators, in order. ``second``: Conv or Gemm that
    alone reads them. ``bounds``: upper bound of each channel, float64 [C], or None where there is none.
    """

    first: ir.Node
    between: tuple[ir.Node, ...]
    second: ir.Node
    channels: int
    bounds: np.ndarray | None = field(default=None, compare=False)

    @property
    def uniform(self) -> bool:
        """Whether all channels have the same bound, or none."""
        return self.bounds is None or bool(np.ptp(self.bounds) <= 1e-6 * self.bounds.max())


def find_links(graph: ir.Graph) -> list[Link]:
    """All pairs of layers of a prepared graph between which rescaling keeps the function, in topological order."""
    return [link for node in graph if (link := _link(node)) is not None]


def _link(first: ir.Node) -> Link | None:
    weight = constant(first.inputs[1]) if first.op_type == "Conv" else None
    if weight is None or constant(first.inputs[2]) is None or _shared(first, 1) or _shared(first, 2):
        return None
    channels = int(weight.shape[0])
    between: list[ir.Node] = []
    bounds: np.ndarray | None = None
    node = only_reader(first.outputs[0])
    while node is not None and node.op_type in HOMOGENEOUS:
        if node.op_type in ("Clip", "Min"):
            bound = _bound(node, channels)
            if bound is None:
                return None
            bounds = bound if bounds is None else np.minimum(bounds, bound)
        elif node.op_type == "Flatten" and not _flattens_one_pixel(node):
            return None
        between.append(node)
        node = only_reader(node.outputs[0])
    if node is None or node.op_type not in ("Conv", "Gemm") or _shared(node, 1):
        return None
    reader = constant(node.inputs[1])
    if reader is None or node.inputs[0] is not (between[-1] if between else first).outputs[0]:
        return None
    if _columns(node, reader, channels) is None:
        return None
    return Link(first, tuple(between), node, channels, bounds)


def _shared(node: ir.Node, index: int) -> bool:
    value = node.inputs[index]
    return value is None or len(list(value.uses())) != 1


def _bound(node: ir.Node, channels: int) -> np.ndarray | None:
    """Upper bound of each channel, or None where the node is not ``min(x, b)`` or ``clip(x, 0, b)`` with ``b > 0``."""
    if node.op_type == "Clip":
        low = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        high = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        if low is None or high is None or float(low) != 0.0 or float(high) <= 0.0:
            return None
        return np.full(channels, float(high))
    if len(node.inputs) != 2:
        return None
    array = next((found for value in node.inputs if (found := constant(value)) is not None), None)
    if array is None or array.min() <= 0 or (array.size > 1 and array.shape[-3:] != (channels, 1, 1)):
        return None
    return np.broadcast_to(array.astype(np.float64).reshape(-1), channels).copy()


def _flattens_one_pixel(node: ir.Node) -> bool:
    before = node.inputs[0].producer() if node.inputs[0] is not None else None
    return before is not None and before.op_type == "GlobalAveragePool" and attribute(node, "axis", 1) == 1


def _columns(node: ir.Node, weight: np.ndarray, channels: int) -> int | None:
    """The axis of ``weight`` along which the node reads its input channels, or None where they do not match."""
    if node.op_type == "Gemm":
        axis = 1 if attribute(node, "transB", 0) else 0
        return axis if not attribute(node, "transA", 0) and weight.shape[axis] == channels else None
    group = attribute(node, "group", 1)
    if group == 1:
        return 1 if weight.shape[1] == channels else None
    return 0 if group == channels == weight.shape[0] and weight.shape[1] == 1 else None


def rescale(graph: ir.Graph, link: Link, scales: np.ndarray) -> None:
    """Divide the channels of ``link`` by ``scales`` and multiply their reader's weights, in place.

    ``graph``: that holds the link. ``link``: of :func:`find_links`; stale afterwards. ``scales``: positive, float [C].
    """
    s = np.asarray(scales, np.float64)
    for index in (1, 2):
        array = constant(link.first.inputs[index])
        assert array is not None
        _replace(link.first, index, array / s.reshape(-1, *[1] * (array.ndim - 1)))
    weight = constant(link.second.inputs[1])
    assert weight is not None
    axis = _columns(link.second, weight, link.channels)
    _replace(link.second, 1, weight * s.reshape([-1 if i == axis else 1 for i in range(weight.ndim)]))
    for node in link.between:
        if node.op_type in ("Clip", "Min"):
            bound = _bound(node, link.channels)
            assert bound is not None
            _rewrite_bound(graph, node, bound / s)


def _replace(node: ir.Node, index: int, array: np.ndarray) -> None:
    value = node.inputs[index]
    assert value is not None
    value.const_value = ir.tensor(array.astype(np.float32), name=value.name)


def _rewrite_bound(graph: ir.Graph, node: ir.Node, bound: np.ndarray) -> None:
    source = next(value for value in node.inputs if value is not None and value.const_value is None)
    out, stem = node.outputs[0], node.name or "clip"
    before = source.producer()
    positive = before is not None and before.op_type == "Relu"
    number = _free_number(graph, stem)
    same = np.ptp(bound) <= 1e-6 * bound.max()
    bounded: ir.Node
    if same and (positive or node.op_type == "Clip"):
        zero = new_constant(graph, f"{stem}.low{number}", np.asarray(0, np.float32))
        high = new_constant(graph, f"{stem}.high{number}", np.asarray(bound.mean(), np.float32))
        if positive and before is not None and only_reader(source) is node:
            assert before.inputs[0] is not None
            source = before.inputs[0]
        bounded = new_node("Clip", [source, zero, high], name=stem, out=f"{out.name}.{number}", like=out)
        new = [bounded]
    else:
        new = []
        if node.op_type == "Clip":
            relu = new_node("Relu", [source], name=stem, out=f"{out.name}.{number}.relu", like=out)
            new.append(relu)
            source, stem = relu.outputs[0], f"{stem}.bound"
        high = new_constant(graph, f"{stem}.high{number}", bound.reshape(1, -1, 1, 1).astype(np.float32))
        bounded = new_node("Min", [source, high], name=stem, out=f"{out.name}.{number}", like=out)
        new.append(bounded)
    for one in new:
        graph.insert_before(node, one)
    out.replace_all_uses_with(bounded.outputs[0], replace_graph_outputs=True)
    graph.remove(node, safe=True)
    if before is not None and not before.outputs[0].uses() and not before.outputs[0].is_graph_output():
        graph.remove(before, safe=True)


def _free_number(graph: ir.Graph, stem: str) -> int:
    return next(n for n in range(len(graph.initializers) + 1) if f"{stem}.high{n}" not in graph.initializers)


def equalize(model: ir.Model, *, split_clips: bool = False) -> dict[str, float]:
    """Equalize all links of a prepared graph in place, iterated until no scale moves.

    ``model``: as :func:`deploykit.quantization.qdq.prepare.prepare` leaves it. ``split_clips``: rescale also where a
    common upper bound (ReLU6) would become one a channel, which costs an integer ``Min`` at run time; else such links
    only get a common bound back where theirs differ. Returns name of the first layer of each link → largest ratio
    between its channels' scales, where above 1.
    """
    links = find_links(model.graph)
    totals = {link.first: np.ones(link.channels) for link in links}
    weights = {node: _matrix(node) for link in links for node in (link.first, link.second)}
    free = []
    for link in links:
        if split_clips or link.bounds is None:
            free.append(link)
        elif not link.uniform:
            _apply(link, link.bounds / np.exp(np.log(link.bounds).mean()), totals, weights)
    for _ in range(ROUNDS):
        moved = max((_apply(link, _balance(link, weights), totals, weights) for link in free), default=0.0)
        if moved < SETTLED:
            break
    spread = {}
    for link in links:
        total = totals[link.first]
        if np.ptp(np.log(total)) > SETTLED:
            rescale(model.graph, link, total)
            spread[link.first.name or ""] = float(total.max() / total.min())
    return spread


def _matrix(node: ir.Node) -> np.ndarray:
    array = constant(node.inputs[1])
    assert array is not None
    return array.astype(np.float64)


def _ranges(array: np.ndarray, axis: int) -> np.ndarray:
    return np.abs(array).max(axis=tuple(i for i in range(array.ndim) if i != axis))


def _balance(link: Link, weights: Mapping[ir.Node, np.ndarray]) -> np.ndarray:
    """The scales that make both weight ranges of each channel equal; 1 for dead channels."""
    axis = _columns(link.second, weights[link.second], link.channels)
    assert axis is not None
    made, read = _ranges(weights[link.first], 0), _ranges(weights[link.second], axis)
    alive = (made > TINY) & (read > TINY)
    ratio = np.divide(made, read, out=np.ones(link.channels), where=alive)
    return np.clip(np.sqrt(ratio), 1 / LARGEST, LARGEST)


def _apply(
    link: Link, scales: np.ndarray, totals: dict[ir.Node, np.ndarray], weights: dict[ir.Node, np.ndarray]
) -> float:
    """Rescale the working copies; returns how far the scales are from a common factor of 1."""
    first, second = weights[link.first], weights[link.second]
    axis = _columns(link.second, second, link.channels)
    weights[link.first] = first / scales.reshape(-1, *[1] * (first.ndim - 1))
    weights[link.second] = weights[link.second] * scales.reshape([-1 if i == axis else 1 for i in range(second.ndim)])
    totals[link.first] = totals[link.first] * scales
    return float(np.abs(np.log(scales)).max())
