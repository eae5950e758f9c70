"""Write a plan into the graph: Q behind each quantized activation, one DQ for each of its readers, integer weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from deploykit.quantization.qdq.graph import activation_inputs, attribute, bypass, constant
from deploykit.quantization.qdq.nodes import dequantized_constant, insert_pair
from deploykit.quantization.qdq.placement_ort_cpu import ANCHORS, Plan
from deploykit.quantization.rewrites.clamps import integer_min
from deploykit.quantization.rewrites.grouped_conv import keeps_groups, regrouped
from deploykit.quantization.rewrites.hard_activations import (
    expand_hard_swish,
    hard_sigmoid_scales,
    hard_swish_scale,
    shift_bias,
)
from deploykit.quantization.schemes import (
    Affine,
    channel_scales,
    quantize_bias,
    quantize_weight,
    resized,
    room_for_bias,
    widest,
)

NONE_ROUNDED: Mapping[str, np.ndarray] = {}


def emit_qdq(
    model: ir.Model,
    plan: Plan,
    parameters: Mapping[str, Affine],
    *,
    weight_bits: int = 8,
    paired: bool = False,
    integer_bias: bool = True,
    rounded: Mapping[str, np.ndarray] = NONE_ROUNDED,
    limits: Mapping[str, np.ndarray] = NONE_ROUNDED,
) -> ir.Model:
    """Quantize ``model`` in place.

    Returns the model, with QuantizeLinear and DequantizeLinear.

    Args:
        model: the prepared float graph that the plan was made on.
        plan: which nodes and activations.
        parameters: name of the activation in the float graph → scale and zero point.
        weight_bits: fewer than 8 are stored as int8 too.
        paired: sums of two neighbouring u8·s8 products must fit 16 bits.
        integer_bias: int32 biases behind a DQ; else they stay float.
        rounded: name of a layer → its integer weights at this width, in place of those nearest.
        limits: name of a layer → what its channels' largest integers mean, in place of their largest weights.
    """
    graph = model.graph
    write = {value: affine_of(plan, value, parameters) for value in plan.points}
    read: dict[ir.Value, Affine] = {}
    for node in plan.absorbed:
        if node.op_type == "HardSigmoid":
            out = node.outputs[0]
            write[out], read[out] = hard_sigmoid_scales(node, write[out])
            shift_bias(graph, node)
    swish = {node.inputs[0]: node for node in plan.hard_swish}
    for value in swish:
        if value is not None:
            write[value] = hard_swish_scale(write[value])
    for node in plan.nodes:
        if node.op_type in ANCHORS:
            source = node.inputs[0]
            assert source is not None
            scale = read.get(source, write[source]).scale
            name = node.name or ""
            scales = channel_scales(*_weight(node), weight_bits, paired=paired)
            if name in limits:  # padded channels, which are zero, keep theirs
                scales[: len(limits[name])] = limits[name] / np.float32(2 ** (weight_bits - 1) - 1)
            _quantize_weights(graph, node, scale, scales, weight_bits, integer_bias, rounded.get(name))
    sources = {node: next(value for _, value in activation_inputs(node)) for node in plan.clamps}
    made_by: dict[ir.Value, ir.Value] = {}
    for node in plan.absorbed:
        before = node.inputs[0]
        assert before is not None
        made_by[node.outputs[0]] = before
        bypass(node)
    integer = set(plan.nodes)
    quantizers = {}
    for value, affine in write.items():
        place = made_by.get(value, value)
        from_float = place.producer() not in integer
        readers = plan.reads.get(value) or [
            (use.node, use.idx) for use in place.uses() if use.node in integer or not from_float
        ]
        ends = not plan.reads and not from_float
        quantizers[value] = insert_pair(graph, place, readers, affine, read.get(value, affine), rounded_output=ends)
    for value, node in swish.items():
        if value is not None:
            expand_hard_swish(graph, node, quantizers[value], write[value])
    for node in plan.clamps:
        source = sources[node]
        integer_min(graph, node, quantizers[source], quantizers[node.outputs[0]], write[source])
    return common.RemoveUnusedNodesPass()(model).model


def affine_of(plan: Plan, value: ir.Value, parameters: Mapping[str, Affine]) -> Affine:
    """Scale and zero point of a point of ``plan``: its own, those of the value it takes them from, or of its group."""
    source = plan.shared.get(value, value)
    if source in plan.joined:
        return widest(parameters[one.name or ""] for one in plan.joined[source])
    return parameters[source.name or ""]


def _quantize_weights(
    graph: ir.Graph,
    node: ir.Node,
    input_scale: float,
    scales: np.ndarray,
    bits: int,
    integer_bias: bool,
    rounded: np.ndarray | None,
) -> None:
    weight, axis = _weight(node)
    stem = node.name or node.outputs[0].name or "node"
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is not None and integer_bias:
        scales = room_for_bias(scales, bias, input_scale)
        integers, both = quantize_bias(bias, scales, input_scale)
        node.replace_input_with(2, dequantized_constant(graph, node, f"{stem}.bias", integers, both, 0))
    if rounded is None:
        integers = quantize_weight(weight, scales, axis, bits)
    else:
        integers = (regrouped if keeps_groups(node) else resized)(rounded, weight.shape)
    node.replace_input_with(1, dequantized_constant(graph, node, f"{stem}.weight", np.asarray(integers), scales, axis))


def _weight(node: ir.Node) -> tuple[np.ndarray, int]:
    """The weight of a layer and the axis of its output channels."""
    weight = constant(node.inputs[1])
    assert weight is not None
    return weight, 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else weight.ndim - 1
