"""Give the first convolution more input channels than a picture has; the function does not change.

ONNX Runtime's integer convolution works on groups of four channels and gathers them position by position. Three
channels of a strided stem make many small gathers. Where the stride divides the picture, ``SpaceToDepth`` by the stride
turns each block of pixels into channels: a k×k convolution of stride s over c channels is one of stride 1 and about
(k/s)×(k/s) over s²c channels, its weights rearranged, zeros where a block reaches beyond the kernel. Where it does not,
a large kernel gains from a fourth channel of zeros.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from deploykit.quantization.qdq.graph import attribute, constant, new_constant, new_node
from deploykit.quantization.rewrites.padding import widen

LARGE_KERNEL = 7
MOST_CHANNELS = 4


def reshape_stem(graph: ir.Graph, keep: frozenset[str] = frozenset()) -> bool:
    """Rearrange the stem in place, by whichever way fits it; returns whether one did."""
    node = next((node for node in graph if node.op_type == "Conv"), None)
    weight = constant(node.inputs[1]) if node is not None else None
    if node is None or weight is None or weight.ndim != 4 or (node.name or "") in keep:
        return False
    if weight.shape[1] >= MOST_CHANNELS or attribute(node, "group", 1) != 1:
        return False
    return _fold(graph, node, weight) or _fourth_channel(graph, node, weight)


def _fold(graph: ir.Graph, node: ir.Node, weight: np.ndarray) -> bool:
    source = node.inputs[0]
    assert source is not None
    block = _block(node, source)
    if block is None:
        return False
    out, channels, *kernel = weight.shape
    pads = np.asarray(attribute(node, "pads", [0, 0, 0, 0])).reshape(2, 2)
    axes = [
        _Axis(int(k), block, int(a), int(b), int(n)) for k, a, b, n in zip(kernel, *pads, _sizes(source), strict=True)
    ]
    rows, columns = axes
    wide = np.zeros((out, channels, rows.taps * block, columns.taps * block), weight.dtype)
    wide[:, :, rows.offset : rows.offset + rows.kernel, columns.offset : columns.offset + columns.kernel] = weight
    parts = wide.reshape(out, channels, rows.taps, block, columns.taps, block)
    folded = parts.transpose(0, 3, 5, 1, 2, 4).reshape(out, block * block * channels, rows.taps, columns.taps)
    deep = new_node(
        "SpaceToDepth", [source], {"blocksize": block}, name="stem.fold", out="stem.folded", dtype=source.dtype
    )
    deep.outputs[0].shape = ir.Shape(
        [source.shape[0] if source.shape else None, block * block * channels, *(axis.size // block for axis in axes)]
    )
    graph.insert_before(node, deep)
    node.replace_input_with(0, deep.outputs[0])
    node.replace_input_with(1, new_constant(graph, f"{node.name}.weight.folded{block}", np.ascontiguousarray(folded)))
    node.attributes["strides"] = ir.AttrInt64s("strides", [1, 1])
    node.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", [rows.taps, columns.taps])
    node.attributes["pads"] = ir.AttrInt64s("pads", [rows.before, columns.before, rows.after, columns.after])
    return True


class _Axis:
    """One side of a strided convolution as a convolution of stride 1 over blocks.

    Output o reads pixels ``o·s − before_px … o·s − before_px + k − 1``: blocks ``o − before … o − before + taps − 1``.
    """

    def __init__(self, kernel: int, block: int, before_px: int, after_px: int, size: int) -> None:
        self.kernel, self.size = kernel, size
        self.before = -(-before_px // block)
        self.offset = self.before * block - before_px
        self.taps = -(-(self.offset + kernel) // block)
        outputs = (size + before_px + after_px - kernel) // block + 1
        self.after = outputs - 1 + self.taps - self.before - size // block


def _block(node: ir.Node, source: ir.Value) -> int | None:
    strides, dilations = attribute(node, "strides", [1, 1]), attribute(node, "dilations", [1, 1])
    assert isinstance(strides, (list, tuple))
    assert isinstance(dilations, (list, tuple))
    block, sizes = int(strides[0]), _sizes(source)
    same = len(set(strides)) == 1 and set(dilations) == {1} and attribute(node, "auto_pad", "NOTSET") == "NOTSET"
    fits = block > 1 and len(sizes) == 2 and not any(size % block for size in sizes)
    if not (same and fits):
        return None
    weight = constant(node.inputs[1])
    assert weight is not None
    pads = np.asarray(attribute(node, "pads", [0, 0, 0, 0])).reshape(2, 2)
    axes = (_Axis(int(k), block, int(a), int(b), n) for k, a, b, n in zip(weight.shape[2:], *pads, sizes, strict=True))
    return block if all(axis.after >= 0 for axis in axes) else None


def _sizes(source: ir.Value) -> list[int]:
    """Height and width where they are fixed, else nothing."""
    if source.shape is None or len(source.shape) != 4:
        return []
    return [size for size in list(source.shape)[2:] if isinstance(size, int)]


def _fourth_channel(graph: ir.Graph, node: ir.Node, weight: np.ndarray) -> bool:
    """Small kernels do not gain: the padding costs more."""
    source = node.inputs[0]
    if source is None or not source.is_graph_input() or min(weight.shape[2:]) < LARGE_KERNEL:
        return False
    extra = -weight.shape[1] % 4
    pads = new_constant(graph, "stem.pads", np.asarray([0, 0, 0, 0, 0, extra, 0, 0], np.int64))
    pad = new_node("Pad", [source, pads], name="stem.pad", out="stem.padded", dtype=source.dtype)
    graph.insert_before(node, pad)
    node.replace_input_with(0, pad.outputs[0])
    widen(graph, node, 1, extra, axis=1)
    return True
