"""Merge narrow groups of a grouped convolution into wider ones; the function does not change.

ONNX Runtime's integer kernels multiply each group as a matrix of its own. With 4 or 8 channels in a group the registers
are almost empty: RegNet's groups of 8 cost as much as groups of 32 with four times the products. So m neighbouring
groups become one, whose weights are the old ones along the diagonal and zeros elsewhere:

    y[m·g + i] = Σ_j W[m·g + i, j] · x[m·g + j],   W[m·g + i, j] = 0 where i and j were in different groups.

Groups of 32 are the fastest, then of 16 (24 is slower than 16); up to 48 channels in all a convolution without groups is.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from deploykit.quantization.qdq.graph import attribute, constant, new_constant

WIDTHS = (32, 16)
DENSE = 48


def merge_groups(graph: ir.Graph, keep: frozenset[str] = frozenset()) -> int:
    """Merge in place where that gives a faster width; returns how many convolutions were changed.

    ``graph``: prepared float graph, channels padded already (``padding``), so that their number divides. ``keep``:
    names of nodes that stay float, which are left alone.
    """
    changed = 0
    for node in graph:
        weight = constant(node.inputs[1]) if node.op_type == "Conv" and (node.name or "") not in keep else None
        if weight is None or not keeps_groups(node) or weight.shape[1] == 1:
            continue
        channels, width = weight.shape[:2]
        wide = _wider(channels, width)
        if wide != width:
            _merge(graph, node, weight, wide)
            changed += 1
    return changed


def keeps_groups(node: ir.Node) -> bool:
    """Whether ``node`` is a convolution with constant weights whose groups are as wide behind it as before it."""
    weight = constant(node.inputs[1]) if node.op_type == "Conv" else None
    if weight is None:
        return False
    groups = attribute(node, "group", 1)
    assert isinstance(groups, int)
    return groups > 1 and weight.shape[0] == groups * weight.shape[1]


def _wider(channels: int, width: int) -> int:
    if channels <= DENSE:
        return channels
    return next((w for w in WIDTHS if w > width and w % width == 0 and channels % w == 0), width)


def _merge(graph: ir.Graph, node: ir.Node, weight: np.ndarray, wide: int) -> None:
    channels, width = weight.shape[:2]
    merged = np.zeros((channels, wide, *weight.shape[2:]), weight.dtype)
    for first in range(0, channels, width):
        column = first % wide
        merged[first : first + width, column : column + width] = weight[first : first + width]
    node.replace_input_with(1, new_constant(graph, f"{node.name}.weight.merged{wide}", merged))
    node.attributes["group"] = ir.AttrInt64("group", channels // wide)


def regrouped(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Weights of one width of groups and number of channels written in another; what does not exist there is left out.

    ``array``: of a grouped convolution, [C, width, …]. ``shape``: wanted, [C', width', …].
    """
    found = np.zeros(shape, array.dtype)
    had, wants = array.shape[1], shape[1]
    for channel in range(min(len(array), len(found))):
        old, new = channel // had * had, channel // wants * wants
        first, last = max(old, new), min(old + had, new + wants)
        found[channel, first - new : last - new] = array[channel, first - old : last - old]
    return found
