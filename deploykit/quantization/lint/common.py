"""Lint rules that hold for every target."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from deploykit.quantization.lint.view import DQ, Finding, View, dequantizer, parameters, reads_constant, weight_shape
from deploykit.quantization.qdq.graph import attribute, constant

INTEGER_OPERATORS = (
    "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear",
)  # fmt: skip


def nothing_on_integers(view: View) -> Iterator[Finding]:
    """A file with no Q/DQ and no integer operator is a float model."""
    if not any(node.op_type in (*INTEGER_OPERATORS, DQ) or node.op_type.startswith("QLinear") for node in view.nodes):
        mend = "Quantize it: deploykit quantize FILE --data D --target T."
        yield Finding("float-model", True, view.graph.name or "graph", "holds no Q/DQ: nothing runs on integers", mend)


def bad_scales(view: View) -> Iterator[Finding]:
    """A scale that is zero, negative or not finite."""
    for node in view.pairs:
        scale = parameters(node).scale
        if scale is not None and not (np.isfinite(scale).all() and (scale > 0).all()):
            mend = "Calibrate again; a dead channel needs any positive scale."
            yield Finding("scale", True, node.name or "", "has a scale that is not a positive number", mend)


def float_convolutions(view: View) -> Iterator[Finding]:
    """Convolutions and matrix products that stay float, and why."""
    for node in view.anchors:
        why = _why_float(node)
        if why is not None:
            message = f"{node.op_type} stays float: {why}"
            mend = "Leave it where that was chosen (--keep-float, measured slower); else quantize both its inputs."
            yield Finding(
                "float-conv" if node.op_type == "Conv" else "float-product", False, node.name or "", message, mend
            )


def _why_float(node: ir.Node) -> str | None:
    weight = dequantizer(node.inputs[1])
    picture = dequantizer(node.inputs[0])
    if weight is None and constant(node.inputs[1]) is None:
        return None if node.op_type != "Conv" else "its weight is computed at run time"
    if weight is None and picture is None:
        return "neither its input nor its weight is quantized"
    if weight is None:
        return "its weight is not quantized"
    if picture is None:
        return "its input is not quantized"
    return None


def activations_per_channel(view: View) -> Iterator[Finding]:
    """A scale for each channel of an activation: no engine multiplies integers that way."""
    for node in view.pairs:
        scale = parameters(node).scale
        stored = node.op_type == DQ and reads_constant(node)
        if not stored and constant(node.inputs[0]) is None and scale is not None and scale.size > 1:
            message = "quantizes an activation with a scale for each channel, so that what reads it stays float"
            mend = "Use one scale for the whole activation."
            yield Finding("per-channel-activation", False, node.name or "", message, mend)


def weight_axes(view: View) -> Iterator[Finding]:
    """Weights with a scale for each *input* channel, or with one scale for all."""
    for node in view.anchors:
        dq, shape = dequantizer(node.inputs[1]), weight_shape(node)
        scale = parameters(dq).scale if dq is not None else None
        if dq is None or shape is None or scale is None:
            continue
        first = node.op_type == "Conv" or bool(attribute(node, "transB", 0))
        wanted = 0 if first else len(shape) - 1
        said = attribute(dq, "axis", 1)
        axis = said % len(shape) if isinstance(said, int) else 1
        if scale.size == 1 and shape[wanted] > 1:
            message = "has one scale for all output channels, which costs accuracy"
        elif scale.size > 1 and axis != wanted:
            message = f"has its scales along axis {axis}, where only those of output channels (axis {wanted}) fuse"
        else:
            continue
        mend = "Quantize weights per output channel."
        yield Finding("weight-axis", False, dq.name or "", f"the weight of {node.op_type} {node.name} {message}", mend)


def odd_channels(view: View, multiple: int, why: str, depthwise_only: bool = False) -> Iterator[Finding]:
    """Convolutions whose channels do not fill the integer kernels' groups; a picture's few channels aside."""
    for node in view.anchors:
        shape = weight_shape(node)
        if node.op_type != "Conv" or shape is None or dequantizer(node.inputs[1]) is None:
            continue
        group = attribute(node, "group", 1)
        group = group if isinstance(group, int) else 1
        depthwise = group > 1 and shape[1] == 1
        if depthwise_only and not depthwise:
            continue
        odd = [n for n in ({shape[0]} if depthwise else {shape[0], shape[1]}) if n % multiple and n > 4]
        if odd:
            numbers = " and ".join(str(n) for n in sorted(odd))
            message = f"has {numbers} channels, no multiple of {multiple}: {why}"
            mend = f"Choose widths that are multiples of {multiple} in training or pruning."
            yield Finding("channels", False, node.name or "", message, mend)
