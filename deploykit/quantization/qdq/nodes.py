"""The Q and DQ nodes themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from deploykit.quantization.qdq.graph import new_constant, new_node
from deploykit.quantization.schemes import Affine


def dequantized_constant(
    graph: ir.Graph, reader: ir.Node, name: str, integers: np.ndarray, scales: np.ndarray, axis: int
) -> ir.Value:
    """A DQ over stored integers, placed before ``reader``; returns its output."""
    inputs = [
        new_constant(graph, f"{name}.q", integers),
        new_constant(graph, f"{name}.scale", scales),
        new_constant(graph, f"{name}.zero", np.zeros(scales.shape, integers.dtype)),
    ]
    dq = new_node(
        "DequantizeLinear",
        inputs,
        {"axis": axis},
        name=f"{name}.dq",
        out=f"{name}.dequantized",
        dtype=ir.DataType.FLOAT,
    )
    graph.insert_before(reader, dq)
    return dq.outputs[0]


def insert_pair(
    graph: ir.Graph,
    value: ir.Value,
    readers: Sequence[tuple[ir.Node, int]],
    write: Affine,
    read: Affine,
    *,
    rounded_output: bool = True,
) -> ir.Node:
    """Put a Q behind ``value`` and a DQ before each of ``readers``; returns the Q.

    Args:
        graph: that holds them.
        value: float activation.
        readers: (node, input index) that shall see the rounded value; a float operator's output may also be read unrounded by others.
        write: scale and zero point of the Q.
        read: of the DQs; another scale than ``write`` multiplies by a constant for free.
        rounded_output: where the value is an output of the graph, that is rounded too.
    """
    name = value.name or "activation"
    to = _constants(graph, f"{name}.write" if read != write else name, write)
    back = to if read == write else _constants(graph, f"{name}.read", read)
    integer = ir.DataType.from_numpy(np.dtype(write.scheme.dtype))
    q = new_node("QuantizeLinear", [value, *to], name=f"{name}.q", out=f"{name}.quantized", like=value, dtype=integer)
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph.node(0), q)
    else:
        graph.insert_after(producer, q)
    for number, (node, index) in enumerate(readers):
        dq = reading(q.outputs[0], back, f"{name}.{number}", value)
        graph.insert_before(node, dq)
        node.replace_input_with(index, dq.outputs[0])
    if value.is_graph_output() and rounded_output:
        dq = reading(q.outputs[0], back, f"{name}.out", value)
        graph.insert_after(q, dq)
        value.name, dq.outputs[0].name = f"{name}.float", name
        graph.outputs[list(graph.outputs).index(value)] = dq.outputs[0]
    return q


def _constants(graph: ir.Graph, name: str, affine: Affine) -> tuple[ir.Value, ir.Value]:
    scale = new_constant(graph, f"{name}.scale", np.asarray(affine.scale, np.float32))
    zero = new_constant(graph, f"{name}.zero", np.asarray(affine.zero_point, affine.scheme.dtype))
    return scale, zero


def reading(integers: ir.Value, parameters: tuple[ir.Value, ir.Value], name: str, like: ir.Value) -> ir.Node:
    """A DQ of ``integers`` that is not in the graph yet."""
    return new_node(
        "DequantizeLinear",
        [integers, *parameters],
        name=f"{name}.dq",
        out=f"{name}.dequantized",
        like=like,
        dtype=ir.DataType.FLOAT,
    )
