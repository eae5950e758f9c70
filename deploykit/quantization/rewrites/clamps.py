"""An upper bound for each channel on integers: ``min(x, b)`` between a Q and a DQ of one scale is a ``Min`` of uint8."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from deploykit.quantization.qdq.graph import constant, new_constant, new_node
from deploykit.quantization.schemes import Affine


def upper_bound(node: ir.Node) -> np.ndarray | None:
    """The positive constant of a ``Min`` of two, or None where the node is something else."""
    if node.op_type != "Min" or len(node.inputs) != 2:
        return None
    found = [array for value in node.inputs if (array := constant(value)) is not None]
    return found[0] if len(found) == 1 and bool((found[0] > 0).all()) else None


def integer_min(graph: ir.Graph, node: ir.Node, before: ir.Node, after: ir.Node, written: Affine) -> None:
    """Replace ``Q → DQ → Min → Q`` by ``Q → Min`` over the integers; the bound is rounded to their step.

    ``graph``: that holds them; nodes without a reader are left behind. ``before``: the Q of its input. ``after``: the Q
    of its output. ``written``: scale and zero point of both.
    """
    bound = upper_bound(node)
    assert bound is not None
    name = node.name or node.outputs[0].name or "min"
    top = new_constant(graph, f"{name}.top", written.quantize(bound))
    out = after.outputs[0]
    least = new_node("Min", [before.outputs[0], top], name=f"{name}.integer", out=f"{out.name}.clamped", like=out)
    graph.insert_before(after, least)
    out.replace_all_uses_with(least.outputs[0])
    graph.remove(after, safe=True)
