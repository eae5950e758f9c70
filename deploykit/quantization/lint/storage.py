"""Lint rules on how numbers are stored: scales and their axes, integer types, channels that fill the kernels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from deploykit.quantization.lint.view import DQ, Finding, Q, View, dequantizer, parameters, reads_constant, weight_shape
from deploykit.quantization.qdq.graph import attribute, constant
from deploykit.quantization.schemes import largest_pair

FITS = 2**7


def bad_scales(view: View) -> Iterator[Finding]:
    """A scale that is zero, negative or not finite."""
    for node in view.pairs:
        scale = parameters(node).scale
        if scale is not None and not (np.isfinite(scale).all() and (scale > 0).all()):
            mend = "Calibrate again; a dead channel needs any positive scale."
            yield Finding("scale", True, node.name or "", "has a scale that is not a positive number", mend)


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


def slow_types(view: View) -> Iterator[Finding]:
    """uint8 weights, and signed activations where the CPU multiplies unsigned by signed."""
    for node in view.pairs:
        of = parameters(node)
        if node.op_type == DQ and reads_constant(node) and of.kind == ir.DataType.UINT8:
            message, mend = (
                "stores a constant as uint8, up to three times slower than int8",
                "Quantize weights to int8.",
            )
        elif node.op_type == Q and of.kind == ir.DataType.INT8:
            message, mend = (
                "writes int8 activations; x86 multiplies uint8 by int8, and what reads them may stay float",
                "Quantize activations to uint8, except for Arm.",
            )
        else:
            continue
        yield Finding("slow-type", False, node.name or "", message, mend)


def saturating_weights(view: View) -> Iterator[Finding]:
    """8-bit weights on a CPU that adds two u8·s8 products in 16 bits."""
    for node in view.anchors:
        dq = dequantizer(node.inputs[1])
        stored = constant(dq.inputs[0]) if dq is not None else None
        if stored is None or stored.dtype != np.int8:
            continue
        axis = 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else stored.ndim - 1
        if largest_pair(stored.astype(np.int16), axis).max(initial=0) > FITS:
            message = "has 8-bit weights; this CPU has no VNNI and its sums of two u8 by s8 products overflow 16 bits"
            mend = "Quantize it on this machine or with --isa avx2, or run it on a CPU with VNNI."
            yield Finding("saturation", True, node.name or "", message, mend)
