"""Repeat a gate along each row of what it multiplies; not one integer changes.

Squeeze-and-excite multiplies a picture [N, C, H, W] by one number a channel, [N, C, 1, 1]. With channels last, as the
integer convolutions want them, ONNX Runtime's QLinearMul starts anew at each pixel, some 10 ns each time. Behind a
``Tile`` of the gate's integers to [N, C, 1, W] it starts anew at each row: ``x · tile(s) = x · s``, element by element.
Small pictures gain less than the Tile costs.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from deploykit.quantization.qdq.graph import new_constant, new_node

LEAST_PIXELS = 1024


def spread_gates(graph: ir.Graph) -> int:
    """Put a Tile before the DQ of each gate that multiplies a large picture of known size; returns how many.

    ``graph``: quantized, changed in place.
    """
    changed = 0
    for node in list(graph):
        if node.op_type != "Mul" or len(node.inputs) != 2:
            continue
        for value, other in (node.inputs, tuple(reversed(node.inputs))):
            gate, width = value.producer() if value is not None else None, _width(other)
            if gate is not None and width and gate.op_type == "DequantizeLinear" and _sides(value) == [1, 1]:
                _spread(graph, node, gate, width)
                changed += 1
    return changed


def _sides(value: ir.Value | None) -> list[int]:
    """Height and width where they are known."""
    shape = value.shape if value is not None else None
    return [side for side in list(shape)[2:] if isinstance(side, int)] if shape is not None and len(shape) == 4 else []


def _width(value: ir.Value | None) -> int:
    """Of a large picture that is read from integers; 0: it is none."""
    maker = value.producer() if value is not None else None
    sides = _sides(value)
    large = len(sides) == 2 and sides[0] * sides[1] >= LEAST_PIXELS
    return sides[1] if large and maker is not None and maker.op_type == "DequantizeLinear" else 0


def _spread(graph: ir.Graph, product: ir.Node, gate: ir.Node, width: int) -> None:
    integers, name = gate.inputs[0], f"{product.name}.gate"
    assert integers is not None
    repeats = new_constant(graph, f"{name}.repeats", np.asarray([1, 1, 1, width], np.int64))
    tile = new_node("Tile", [integers, repeats], name=f"{name}.tile", out=f"{name}.row", dtype=integers.dtype)
    read = new_node(
        "DequantizeLinear", [tile.outputs[0], *gate.inputs[1:]], name=f"{name}.dq", out=f"{name}.read",
        dtype=ir.DataType.FLOAT,
    )  # fmt: skip
    shape = list(integers.shape or ())
    for out in (tile.outputs[0], read.outputs[0]):
        out.shape = ir.Shape([*shape[:3], width])
    graph.insert_before(product, [tile, read])
    for index, value in enumerate(product.inputs):
        if value is gate.outputs[0]:
            product.replace_input_with(index, read.outputs[0])
