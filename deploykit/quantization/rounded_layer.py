"""One layer of a float network rounded as its target's dialect would, the rest untouched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from deploykit.quantization.calibrate import parameters
from deploykit.quantization.qdq.emit import affine_of
from deploykit.quantization.qdq.graph import attribute, constant, new_constant
from deploykit.quantization.qdq.nodes import insert_pair
from deploykit.quantization.qdq.placement_ort_cpu import ANCHORS, Plan
from deploykit.quantization.qdq.prepare import prepare
from deploykit.quantization.schemes import Affine
from deploykit.quantization.search import Choice, Quantizer
from deploykit.quantization.weights import channel_scales, quantize_weight, room_for_bias


@dataclass(frozen=True)
class Rounding:
    """How one layer is rounded.

    Attributes:
        layer: node name.
        op_type: of the node.
        read: scale and zero point of its input.
        source: name of the activation whose range that is.
        written: name → scale and zero point of activations it makes that no other layer reads (into residual sums).
        weight_bits: width of its weights.
    """

    layer: str
    op_type: str
    read: Affine
    source: str
    written: tuple[tuple[str, Affine], ...]
    weight_bits: int


def roundings(quantizer: Quantizer, choice: Choice) -> tuple[ir.Model, dict[str, Rounding]]:
    """The prepared float network and the rounding of each layer that ``choice`` quantizes, in topological order."""
    model = prepare(quantizer.proto)
    dialect = quantizer.dialect
    kept = choice.prefix | choice.keep_float
    plan = dialect.plan(model.graph, kept, float_adds=choice.float_adds, float_head=choice.float_head)
    needed = {_source(plan, value).name or "" for value in plan.points}
    chosen = parameters(
        {name: quantizer.seen[name] for name in needed if name in quantizer.seen},
        dialect.activations,
        choice.method,
        percentile=quantizer.percentile,
    )

    def affine(value: ir.Value) -> Affine:
        return affine_of(plan, value, chosen)

    found = {}
    for node in plan.nodes:
        value = node.inputs[0]
        if node.op_type in ANCHORS and value is not None:
            written = tuple((out.name or "", affine(out)) for out in _only_into_sums(node, plan))
            source = _source(plan, value).name or ""
            found[node.name or ""] = Rounding(
                node.name or "", node.op_type, affine(value), source, written, dialect.weight_bits
            )
    return model, found


def _source(plan: Plan, value: ir.Value) -> ir.Value:
    return plan.shared.get(value, value)


def _only_into_sums(node: ir.Node, plan: Plan) -> list[ir.Value]:
    after = [reader.outputs[0] for reader in plan.absorbed if reader.inputs[0] is node.outputs[0]]
    made = [value for value in (node.outputs[0], *after) if value in plan.points]
    return [value for value in made if not any(use.node.op_type in ANCHORS for use in value.uses())]


def round_layer(model: ir.Model, how: Rounding, *, weights: bool = True, activations: bool = True) -> None:
    """Round one layer of ``model`` in place: its weights as floats on the integer grid, its activations by Q and DQ."""
    graph = model.graph
    node = next(node for node in graph if node.name == how.layer)
    source = node.inputs[0]
    assert source is not None
    if weights:
        weight = new_constant(graph, f"{how.layer}.weight.rounded", rounded_weight(node, how))
        node.replace_input_with(1, weight)
    if activations:
        insert_pair(graph, source, [(node, 0)], how.read, how.read)
        for name, affine in how.written:
            value = next(value for other in graph for value in other.outputs if value.name == name)
            readers = [(use.node, use.idx) for use in value.uses()]
            insert_pair(graph, value, readers, affine, affine)


def rounded_weight(node: ir.Node, how: Rounding) -> np.ndarray:
    """The weights of a layer, rounded and scaled back, float32 of the same shape."""
    weight = constant(node.inputs[1])
    assert weight is not None
    axis = 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else weight.ndim - 1
    scales = channel_scales(weight, axis, how.weight_bits)
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is not None:
        scales = room_for_bias(scales, bias, how.read.scale)
    shape = [1] * weight.ndim
    shape[axis] = -1
    integers = quantize_weight(weight, scales, axis, how.weight_bits)
    return np.asarray(integers.astype(np.float32) * scales.reshape(shape), np.float32)
