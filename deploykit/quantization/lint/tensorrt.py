"""Lint rules of TensorRT and TensorRT-RTX: what the parser or builder refuses, what it misreads, what breaks fusion."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from deploykit.quantization.lint.view import (
    DQ,
    Finding,
    Q,
    View,
    dequantizer,
    makes,
    parameters,
    readers,
    reads_constant,
    through_pair,
)
from deploykit.quantization.lint.why_float import INTEGER_OPERATORS
from deploykit.quantization.qdq.graph import activation_inputs, only_reader

AGAIN = "Quantize the float model again with this --target."
TYPES = (ir.DataType.INT8, ir.DataType.INT4, ir.DataType.FLOAT8E4M3FN, ir.DataType.FLOAT4E2M1)
ON_INT8 = ("MaxPool", "Relu", "Transpose", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Concat", "Identity", "Add")
ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "HardSwish", "HardSigmoid", "Sigmoid", "Gelu", "Elu", "Softplus", "Tanh")


def zero_points(view: View) -> Iterator[Finding]:
    """The parser refuses any zero point but 0."""
    for node in view.pairs:
        zero = parameters(node).zero_point
        if zero is not None and zero.any():
            message = f"has zero point {zero.flat[zero.argmax()]}; TensorRT takes 0 only"
            yield Finding("zero-point", True, node.name or "", message, AGAIN)


def integer_types(view: View) -> Iterator[Finding]:
    """uint8 activations are read as int8 without a word; int32 biases and uint8 weights are refused."""
    for node in view.pairs:
        kind = parameters(node).kind
        if kind is None or kind in TYPES:
            continue
        code, message = "type", f"has type {kind.name.lower()}, which TensorRT does not quantize to"
        if kind == ir.DataType.INT32:
            code, message = "bias-dq", "dequantizes an int32 bias, which TensorRT refuses"
        elif kind == ir.DataType.UINT8:
            what = (
                "refuses in a weight"
                if node.op_type == DQ and reads_constant(node)
                else "reads as int8: all above 127 steps is cut off"
            )
            code, message = "unsigned", f"is uint8, which TensorRT {what}"
        yield Finding(code, True, node.name or "", message, AGAIN)


def integer_operators(view: View) -> Iterator[Finding]:
    """Fused integer operators have no importer; between Q and DQ few nodes run."""
    for node in view.nodes:
        if node.op_type in INTEGER_OPERATORS or node.op_type.startswith("QLinear") or node.domain == "com.microsoft":
            message = f"{node.op_type} is an operator of ONNX Runtime's integer kernels, which TensorRT does not know"
            yield Finding("integer-operator", True, node.name or "", message, AGAIN)
        elif node.op_type == Q:
            for reader in readers(node.outputs[0]):
                if reader.op_type not in (DQ, *ON_INT8):
                    message = (
                        f"{reader.op_type} computes on the integers of {node.name}; TensorRT has no kernel for that"
                    )
                    yield Finding("integer-compute", True, reader.name or "", message, AGAIN)


def cut_fusions(view: View) -> Iterator[Finding]:
    """A Q/DQ pair between a convolution and the activation or sum that its kernel would have done."""
    for node in view.nodes:
        if node.op_type in ACTIVATIONS:
            conv = makes(through_pair(node.inputs[0]), ("Conv",))
            if conv is not None:
                yield Finding(
                    "cut-fusion",
                    False,
                    conv.name or "",
                    f"Q/DQ stands between Conv and its {node.op_type} ({node.name}), which then run as two kernels",
                    "Quantize behind the activation.",
                )
        elif node.op_type == "Add":
            yield from _residual(node)


def _residual(node: ir.Node) -> Iterator[Finding]:
    inputs = [value for _, value in activation_inputs(node)]
    if len(inputs) != 2 or any((dq := dequantizer(v)) is not None and reads_constant(dq) for v in inputs):
        return
    before = [through_pair(value) for value in inputs]
    if all(before):
        if any(makes(value, ("Conv",)) is not None for value in before):
            message = "reads both inputs rounded, so that the sum cannot join the convolution before it"
            mend = "Quantize only the skip."
            yield Finding("residual-both", False, node.name or "", message, mend)
        return
    fusing = [value for value in inputs if _fuses(value)]
    if fusing and not any(before):
        message = "reads its skip unrounded, which costs the convolution that joins it memory traffic in float"
        mend = "Quantize the skip, if it was not kept float on purpose."
        yield Finding("residual-float", False, node.name or "", message, mend)


def _fuses(value: ir.Value) -> bool:
    conv = makes(value, ("Conv",))
    return conv is not None and only_reader(value) is not None and dequantizer(conv.inputs[0]) is not None


def concat_scales(view: View) -> Iterator[Finding]:
    """Concat moves integers only where all its inputs have the scale of its output."""
    for node in view.nodes:
        dqs = [dequantizer(value) for _, value in activation_inputs(node)] if node.op_type == "Concat" else []
        known = [parameters(dq) for dq in dqs if dq is not None]
        behind = [parameters(reader) for reader in readers(node.outputs[0]) if reader.op_type == Q] if known else []
        if not known:
            continue
        if len(known) != len(dqs):
            message = "reads some inputs rounded and some not, so that it runs in float"
        elif not all(known[0].same_scale(other) for other in (*known[1:], *behind)):
            message = "reads inputs of different scales, or writes another, so that they are rescaled"
        else:
            continue
        yield Finding("concat-scales", False, node.name or "", message, "Give them one scale.")
