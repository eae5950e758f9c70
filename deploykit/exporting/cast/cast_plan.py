"""Which nodes of a graph stay float32 when the rest is cast to a 16-bit format, and why: decided by measured ranges.

A value is kept in float32, with the node that makes it and all that read it, where

* it comes within a factor of ``HEADROOM`` of the format's largest number, or its rounding is dominated by numbers below the
  format's normal range (its rounding SNR is far under what the format gives);
* it feeds an exponential whose argument would be rounded by more than ``EXPONENT_ERROR``;
* a number that is not zero becomes zero before a division, logarithm or root.

A node is kept alone where a sum inside it may overflow, its weights do not fit the format, ONNX does not know it in the
format, or it was asked for. Nodes that only pass values on stay with their neighbours, which saves casts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from deploykit.exporting.cast.formats import HEADROOM, Format, Seen

EXPONENT_ERROR = 0.02
SUMS = ("GlobalAveragePool", "AveragePool", "ReduceMean", "ReduceSum", "GlobalLpPool", "LpPool", "ReduceL1")
SQUARES = (
    "LayerNormalization", "InstanceNormalization", "GroupNormalization", "ReduceL2", "ReduceSumSquare", "LpNormalization",
    "MeanVarianceNormalization", "LRN",
)  # fmt: skip
EXPONENTS = ("Exp", "Softmax", "LogSoftmax", "ReduceLogSumExp")
SMALL_MATTERS = {"Div": 1, "Reciprocal": 0, "Log": 0, "Sqrt": 0, "Pow": 0}
PASSING = (
    "Relu", "Clip", "LeakyRelu", "MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Concat", "Split",
    "Slice", "Pad", "Identity", "Dropout", "Gather", "Expand", "DepthToSpace", "SpaceToDepth", "GlobalMaxPool",
)  # fmt: skip
MAKES_FLOATS = ("ConstantOfShape", "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "EyeLike",
                "Range", "Multinomial", "Bernoulli")  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What stays float32.

    ``why``: name of a node that stays float32 → the reason.
    """

    why: Mapping[str, str]

    def is_float(self, node: ir.Node) -> bool:
        """Whether a node stays float32."""
        return (node.name or "") in self.why


def is_float_value(value: ir.Value | None) -> bool:
    """Whether a value is a float32 tensor."""
    return value is not None and value.dtype == ir.DataType.FLOAT


def accepts(node: ir.Node, index: int, low: Format, opset: int) -> bool:
    """Whether ONNX allows input ``index`` of a node in the format."""
    try:
        inputs = onnx.defs.get_schema(node.op_type, opset, node.domain).inputs
    except onnx.defs.SchemaError:
        return False
    if not inputs:
        return False
    formal = inputs[min(index, len(inputs) - 1)]
    return {"fp16": "tensor(float16)", "bf16": "tensor(bfloat16)"}[low.name] in formal.types


def plan(
    model: ir.Model,
    seen: Mapping[str, Seen],
    low: Format,
    *,
    keep_float: Collection[str] = (),
    also: Mapping[str, str] | None = None,
) -> Plan:
    """Decide by measured ranges.

    ``model``: the float32 graph, with the types of its values inferred. ``seen``: value name → what was measured.
    ``keep_float``: names of nodes, or of operators, that stay float32. ``also``: further nodes → why.
    """
    why: dict[str, str] = dict(also or {})
    opset = model.graph.opset_imports[""]
    for node in model.graph:
        if reason := _node_reason(node, seen, low, opset, keep_float):
            why.setdefault(node.name or "", reason)
    for value in (*model.graph.inputs, *(out for node in model.graph for out in node.outputs)):
        reason = _value_reason(value, seen, low)
        if reason is None:
            continue
        producer = value.producer()
        for node in (*([producer] if producer is not None else []), *(use.node for use in value.uses())):
            why.setdefault(node.name or "", reason)
    _spread(model, why)
    return Plan(why)


def _node_reason(
    node: ir.Node, seen: Mapping[str, Seen], low: Format, opset: int, keep_float: Collection[str]
) -> str | None:
    if not any(is_float_value(value) for value in (*node.inputs, *node.outputs)):
        return None
    if node.name in keep_float or node.op_type in keep_float:
        return "asked for"
    if (node.name or "").startswith("preprocessing/"):
        return "normalises pictures"
    if node.op_type in MAKES_FLOATS:
        return "its type is fixed"
    if not _allowed(node, low, opset):
        return f"ONNX has no {low.name} {node.op_type} in opset {opset}"
    for index, value in enumerate(node.inputs):
        if value is None or value.dtype != ir.DataType.FLOAT:
            continue
        if value.const_value is not None:
            if reason := _weight_reason(node, index, value.const_value.numpy(), seen, low):
                return reason
            continue
        facts = seen.get(value.name or "")
        if facts is None or index > 0:
            continue
        if node.op_type in SUMS and facts.mean * _summed(node, facts, seen) > low.largest:
            return f"its sum may reach {facts.mean * _summed(node, facts, seen):.3g}"
        if node.op_type in SQUARES and facts.largest**2 > low.largest:
            return f"squares of numbers up to {facts.largest:.3g}"
    return None


def _allowed(node: ir.Node, low: Format, opset: int) -> bool:
    """Whether every float input that decides the outputs' type may have the format."""
    if node.op_type == "Cast":
        return True
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return False
    decisive = {one.type_str for one in schema.outputs}
    for index, value in enumerate(node.inputs):
        if is_float_value(value) and schema.inputs:
            formal = schema.inputs[min(index, len(schema.inputs) - 1)]
            if (formal.type_str in decisive or index == 0) and not accepts(node, index, low, opset):
                return False
    return True


def _weight_reason(node: ir.Node, index: int, weight: np.ndarray, seen: Mapping[str, Seen], low: Format) -> str | None:
    if node.op_type in ("QuantizeLinear", "DequantizeLinear", "Clip"):  # scales are moved, bounds cut, to the format's
        return None
    facts = Seen()
    facts.add(weight, low)
    if facts.largest > low.largest:
        return f"a weight of {facts.largest:.3g}"
    if facts.flushed and weight.size == 1:
        return f"the constant {float(weight.reshape(-1)[0]):.3g} would be zero"
    if facts.snr_db >= low.least_snr_db:
        return None
    if index == 2 and node.op_type in ("Conv", "ConvTranspose", "Gemm"):  # judged by the sum it is part of
        return None
    out = seen.get(node.outputs[0].name or "")
    if out is not None and _absorbed(node.outputs[0], out.power * 10 ** (-facts.snr_db / 10), seen):
        return None
    return f"weights below the range of {low.name} (rounding SNR {facts.snr_db:.0f} dB)"


def _absorbed(value: ir.Value, noise: float, seen: Mapping[str, Seen]) -> bool:
    """Whether a value is only added to others, whose sums are rounded with at least that noise anyway."""
    uses = list(value.uses())
    if value.is_graph_output() or not uses or any(use.node.op_type not in ("Add", "Sub", "Sum") for use in uses):
        return False
    sums = [seen.get(use.node.outputs[0].name or "") for use in uses]
    return all(one is not None and one.noise >= noise for one in sums)


def _summed(node: ir.Node, facts: Seen, seen: Mapping[str, Seen]) -> float:
    """How many numbers are added up for one of the output."""
    out = seen.get(node.outputs[0].name or "")
    return max(1.0, facts.count / out.count) if out is not None and out.count else float(facts.count)


def _value_reason(value: ir.Value, seen: Mapping[str, Seen], low: Format) -> str | None:
    facts = seen.get(value.name or "")
    if facts is None or not is_float_value(value):
        return None
    readers = [(use.node, use.idx) for use in value.uses()]
    if facts.largest * HEADROOM > low.largest:
        return f"numbers up to {facts.largest:.3g}"
    if facts.snr_db < low.least_snr_db and not _absorbed(value, facts.noise, seen):
        return f"numbers below the range of {low.name} (rounding SNR {facts.snr_db:.0f} dB)"
    if any(node.op_type in EXPONENTS for node, _ in readers) and facts.largest * low.half_ulp > EXPONENT_ERROR:
        return f"an exponent of up to {facts.largest:.3g}"
    if facts.flushed and any(SMALL_MATTERS.get(node.op_type) == index for node, index in readers):
        return f"numbers that {low.name} makes zero"
    return None


def _spread(model: ir.Model, why: dict[str, str]) -> None:
    """Nodes that only pass values on, between nodes that stay float32, stay as well: two casts less."""
    changed = True
    while changed:
        changed = False
        for node in model.graph:
            if node.op_type not in PASSING or (node.name or "") in why:
                continue
            inputs = [value for value in node.inputs if value is not None and is_float_value(value)]
            makers = [value.producer() for value in inputs if value.const_value is None]
            readers = [use.node for out in node.outputs for use in out.uses()]
            near = [*makers, *readers]
            if makers and readers and all(one is not None and (one.name or "") in why for one in near):
                why[node.name or ""] = "between nodes that stay float32"
                changed = True
