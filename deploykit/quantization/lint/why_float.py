"""Why a layer stays in float, or has to: lint rules for every target, and those of ONNX Runtime's CPU kernels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from deploykit.base.targets import ORT_CPU
from deploykit.quantization.lint.view import DQ, Finding, Q, View, dequantizer, parameters, reads_constant, through_pair
from deploykit.quantization.qdq.graph import constant, only_reader
from deploykit.quantization.qdq.placement_ort_cpu import is_clamp_at_zero

INTEGER_OPERATORS = (
    "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear",
)  # fmt: skip

NO_INTEGER_KERNEL = (
    "HardSigmoid", "HardSwish", "ReduceMean", "Relu", "Clip", "Gelu", "Erf", "Tanh", "LayerNormalization",
    "BatchNormalization",
)  # fmt: skip


def nothing_on_integers(view: View) -> Iterator[Finding]:
    """A file with no Q/DQ and no integer operator is a float model."""
    if not any(node.op_type in (*INTEGER_OPERATORS, DQ) or node.op_type.startswith("QLinear") for node in view.nodes):
        mend = "Quantize it: deploykit quantize FILE --data D --target T."
        yield Finding("float-model", True, view.graph.name or "graph", "holds no Q/DQ: nothing runs on integers", mend)


def float_convolutions(view: View) -> Iterator[Finding]:
    """Convolutions and matrix products that stay float, and why."""
    for node in view.anchors:
        why = _why_float(node)
        if why is not None:
            message = f"{node.op_type} stays float: {why}"
            mend = "Leave it where that was chosen (--keep-float, or dearer as int8); else quantize both its inputs."
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


def convolutions_without_q(view: View) -> Iterator[Finding]:
    """DQ → Conv is fused only where a Q follows, directly or behind a clamp at 0 that this Q takes over."""
    for node in view.anchors:
        if node.op_type != "Conv" or dequantizer(node.inputs[0]) is None or dequantizer(node.inputs[1]) is None:
            continue
        found = _behind(node)
        if found is not None:
            code, message, mend = found
            yield Finding(code, False, node.name or "", f"Conv stays float: {message}", mend)


def _behind(node: ir.Node) -> tuple[str, str, str] | None:
    again = f"Quantize it again for {ORT_CPU}."
    reader = only_reader(node.outputs[0])
    if reader is None:
        return "no-q-behind", "its output is read unrounded too, or by several nodes", again
    if reader.op_type == Q:
        return None
    if not is_clamp_at_zero(reader):
        return "no-q-behind", f"{reader.op_type} stands between it and the next Q", f"Put a Q behind the Conv. {again}"
    q = only_reader(reader.outputs[0])
    if q is None or q.op_type != Q:
        return "no-q-behind", f"no Q follows its {reader.op_type}", again
    if not _clamps_at_zero(q):
        return (
            "clamp-zero-point",
            f"the Q behind its {reader.op_type} does not have the least integer as zero point, "
            "so that it cannot be the clamp at 0",
            "Let that range start at 0.",
        )
    return None


def _clamps_at_zero(q: ir.Node) -> bool:
    of = parameters(q)
    zero = 0 if of.zero_point is None else int(of.zero_point)
    return zero == (-128 if of.kind == ir.DataType.INT8 else 0)


def biases(view: View) -> Iterator[Finding]:
    """An integer bias whose scale is not input scale · weight scale."""
    for node in view.anchors:
        dqs = [dequantizer(value) for value in node.inputs[:3]]
        if len(dqs) < 3 or any(dq is None for dq in dqs):
            continue
        picture, weight, bias = (parameters(dq).scale for dq in dqs if dq is not None)
        if picture is None or weight is None or bias is None:
            continue
        if picture.size == 1 and not np.allclose(bias, picture * weight, rtol=1e-4, atol=0):
            message = f"{node.op_type} stays float: its bias has another scale than input scale times weight scale"
            mend = "Quantize the bias with that product, or leave it float."
            yield Finding("bias-scale", False, node.name or "", message, mend)


def float_islands(view: View) -> Iterator[Finding]:
    """A node without an integer kernel between Q/DQ: rounding is paid for and nothing gained."""
    for node in view.nodes:
        if node.op_type not in NO_INTEGER_KERNEL or through_pair(node.inputs[0]) is None:
            continue
        behind = [use.node for use in node.outputs[0].uses() if use.node.op_type == Q]
        if behind and not (is_clamp_at_zero(node) and all(_clamps_at_zero(q) for q in behind)):
            message = f"{node.op_type} has no integer kernel and computes in float between DQ and Q"
            mend = f"Quantize the float model for {ORT_CPU}, which rewrites it for integers."
            yield Finding("float-island", False, node.name or "", message, mend)
