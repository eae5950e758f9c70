"""Small questions about an ONNX graph held as ``onnx_ir``: constants, the one reader of a value, removal of a node."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The array of a value that is an initializer (or a lifted constant), else None."""
    if value is None or value.const_value is None:
        return None
    return value.const_value.numpy()


def only_reader(value: ir.Value) -> ir.Node | None:
    """The one node that reads ``value``, or None where there are several, none, or it is a graph output."""
    uses = list(value.uses())
    if value.is_graph_output() or len(uses) != 1:
        return None
    return uses[0].node


def bypass(node: ir.Node) -> None:
    """Remove a node with one output whose readers take its first input instead."""
    source, out = node.inputs[0], node.outputs[0]
    assert source is not None
    graph = node.graph
    assert graph is not None
    out.replace_all_uses_with(source, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def activation_inputs(node: ir.Node) -> Iterator[tuple[int, ir.Value]]:
    """Index and value of the inputs that are computed at run time."""
    for index, value in enumerate(node.inputs):
        if value is not None and value.const_value is None:
            yield index, value


def new_constant(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """Register an initializer; where the name is taken already (a layer folded twice), a number is appended."""
    if name in graph.initializers:
        name = next(f"{name}.{number}" for number in itertools.count(1) if f"{name}.{number}" not in graph.initializers)
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    value.shape = ir.Shape(array.shape)
    value.dtype = ir.DataType.from_numpy(array.dtype)
    graph.register_initializer(value)
    return value


def new_node(
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, Any] | None = None,
    *,
    name: str,
    out: str,
    like: ir.Value | None = None,
    dtype: ir.DataType | None = None,
) -> ir.Node:
    """A node with one output called ``out``, of the shape (and, without ``dtype``, the type) of ``like``; not placed."""
    node = ir.node(op_type, inputs, attributes, name=name)
    result = node.outputs[0]
    result.name = out
    kind = dtype if dtype is not None else (like.dtype if like is not None else None)
    if kind is not None:
        result.dtype = kind
    if like is not None:
        result.shape = like.shape
    return node


def attribute(node: ir.Node, name: str, default: object) -> object:
    """The plain value of an attribute, or ``default``."""
    return node.attributes[name].value if name in node.attributes else default


def narrow_points(graph: ir.Graph) -> list[tuple[ir.Node, frozenset[str]]]:
    """Places where one value alone carries the whole network, after a convolution's block.

    Returns in topological order: the node that makes that value, and the names of all nodes up to it.
    """
    last: dict[ir.Value, int] = {}
    nodes = list(graph)
    for index, node in enumerate(nodes):
        for value in node.inputs:
            if value is not None and value.const_value is None:
                last[value] = index
    alive: set[ir.Value] = set(graph.inputs)
    names: list[str] = []
    points = []
    for index, node in enumerate(nodes):
        names.append(node.name or "")
        alive = {value for value in (*alive, *node.outputs) if last.get(value, -1) > index}
        if len(alive) == 1 and node.outputs[0] in alive:
            points.append((node, frozenset(names)))
    return points
