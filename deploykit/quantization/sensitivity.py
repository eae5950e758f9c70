"""What int8 costs each layer alone: it is rounded as its dialect would, all else is float, and the logits are compared.

"Only this layer quantized" ranks layers even where several are bad, which "all but this" cannot. Every candidate uses
the statistics of one calibration. A candidate is not run from the picture on: what lies before the layer is float in all
of them, so it is computed once, up to the last place before the layer where a single activation carries the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common
from scipy.special import log_softmax

from deploykit.base.progress import SILENT, Progress
from deploykit.evaluation.output_groups import powers
from deploykit.exporting.taps import OpenGraph
from deploykit.quantization.observers import Observer
from deploykit.quantization.qdq.emit import affine_of
from deploykit.quantization.qdq.graph import attribute, constant, narrow_points, new_constant
from deploykit.quantization.qdq.nodes import insert_pair
from deploykit.quantization.qdq.placement_ort_cpu import ANCHORS, Plan
from deploykit.quantization.qdq.prepare import prepare
from deploykit.quantization.ranges import parameters
from deploykit.quantization.schemes import Affine, channel_scales, quantize_weight, room_for_bias
from deploykit.quantization.search import Choice, Quantizer, snr_db


@dataclass(frozen=True)
class Rounding:
    """How one layer is rounded.

    ``layer``: node name. ``read``: scale and zero point of its input. ``source``: name of the activation whose range
    that is. ``written``: name → scale and zero point of activations it makes that no other layer reads (into residual
    sums). ``weight_bits``: width of its weights. ``paired``: as of the dialect.
    """

    layer: str
    op_type: str
    read: Affine
    source: str
    written: tuple[tuple[str, Affine], ...]
    weight_bits: int
    paired: bool = False


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
                node.name or "", node.op_type, affine(value), source, written, dialect.weight_bits, dialect.paired
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
    scales = channel_scales(weight, axis, how.weight_bits, paired=how.paired)
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is not None:
        scales = room_for_bias(scales, bias, how.read.scale)
    shape = [1] * weight.ndim
    shape[axis] = -1
    integers = quantize_weight(weight, scales, axis, how.weight_bits)
    return np.asarray(integers.astype(np.float32) * scales.reshape(shape), np.float32)


HELD_BYTES = 512 << 20


def starts(
    proto: onnx.ModelProto, names: Sequence[str], images: int, held_bytes: int = HELD_BYTES
) -> list[tuple[str, list[str]]]:
    """Where to start for each of the nodes ``names``: the last narrow place before it that may be held in memory.

    Returns in topological order: name of the activation (empty: the network's own input) and the nodes that start
    there.
    """
    graph = ir.from_proto(proto).graph
    order = [node.name or "" for node in graph]
    places: list[tuple[str, frozenset[str]]] = [("", frozenset())]
    for node, before in narrow_points(graph):
        size = _bytes_an_image(node.outputs[0])
        if size is not None and size * images <= held_bytes:
            places.append((node.outputs[0].name or "", before))
    found: dict[str, list[str]] = {}
    for name in sorted(names, key=order.index):
        start = max((place for place in places if name not in place[1]), key=lambda place: len(place[1]))[0]
        found.setdefault(start, []).append(name)
    return list(found.items())


def _bytes_an_image(value: ir.Value) -> int | None:
    if value.shape is None:
        return None
    size = 4
    for dim in list(value.shape)[1:]:
        if not isinstance(dim, int):
            return None
        size *= dim
    return size


def segment(proto: onnx.ModelProto, first: str, last: str) -> onnx.ModelProto:
    """The part of a network from activation ``first`` (empty: its input) to ``last`` (empty: its outputs).

    Metadata, which describe the whole network, are left out.
    """
    model = ir.from_proto(proto)
    graph = model.graph
    values = {value.name: value for node in graph for value in node.outputs}
    if last:
        graph.outputs.clear()
        graph.outputs.append(values[last])
    if first:
        old = values[first]
        new = ir.Value(name=f"{first}.held", shape=old.shape, type=old.type)
        old.replace_all_uses_with(new)
        graph.inputs.clear()
        graph.inputs.append(new)
    model.metadata_props.clear()
    return ir.to_proto(common.RemoveUnusedNodesPass()(model).model)


MODES = ("alone", "weights", "activations", "left-out")
BATCH = 8


@dataclass(frozen=True)
class LayerScore:
    """What one layer costs in one way of quantizing.

    ``layer``: node name. ``mode``: one of ``MODES``: only this layer (both, its weights, its activations), or all but
    this layer. ``kl``: mean over pictures of the Kullback-Leibler divergence of the classes' probabilities from
    float's, in nats (of what is no classifier see :func:`divergence`). ``snr_db``: of the logits against float. ``agreement``: share of pictures with the same top-1.
    """

    layer: str
    mode: str
    kl: float
    snr_db: float
    agreement: float


def divergence(reference: np.ndarray, other: np.ndarray) -> float:
    """Mean KL divergence in nats of the softmax of ``other`` from that of ``reference``; both logits [N, C].

    Of what is no classifier's: the power of the difference over that of ``reference``, in the group where it is largest.
    """
    if reference.ndim != 2 or reference.shape[1] < 2:
        groups = [(power.sum(), noise.sum()) for power, noise in powers(reference, other)]
        return max((float(noise / power) for power, noise in groups if power > 0), default=0.0)
    first, second = (log_softmax(one.astype(np.float64), axis=1) for one in (reference, other))
    return max(0.0, float((np.exp(first) * (first - second)).sum(axis=1).mean()))


def score(layer: str, mode: str, reference: np.ndarray, other: np.ndarray) -> LayerScore:
    """The score of the logits of one candidate."""
    same = float((reference.argmax(axis=1) == other.argmax(axis=1)).mean())
    return LayerScore(layer, mode, divergence(reference, other), snr_db(reference, other), same)


def sweep(
    quantizer: Quantizer,
    choice: Choice,
    x: np.ndarray,
    open_graph: OpenGraph,
    modes: Sequence[str] = ("alone",),
    progress: Progress = SILENT,
    only: Sequence[str] | None = None,
) -> list[LayerScore]:
    """Score every layer that ``choice`` quantizes in each of ``modes``, most harmful first within a mode.

    ``choice``: which layers, and the method of ranges. ``x``: prepared pictures, float32 [N, C, H, W]. ``only``: these
    layers instead of all.
    """
    model, found = roundings(quantizer, choice)
    names = [name for name in found if only is None or name in only]
    proto = ir.to_proto(model)
    rounded = [mode for mode in modes if mode != "left-out"]
    scores: list[LayerScore] = []
    with progress.task("sensitivity", len(names) * len(modes), "layers") as bar:
        reference = logits_of(proto, x, open_graph)
        for tail, source, layers in _tails(proto, names, x, open_graph) if rounded else ():
            for layer in layers:
                for mode in rounded:
                    made = _rounded(tail, found[layer], mode)
                    scores.append(score(layer, mode, reference, logits_of(made, source, open_graph)))
                    bar.advance(1)
        for layer in names if "left-out" in modes else ():
            made = quantizer.make(replace(choice, keep_float=choice.keep_float | {layer}))
            scores.append(score(layer, "left-out", reference, logits_of(made, x, open_graph)))
            bar.advance(1)
    return sorted(scores, key=lambda one: (modes.index(one.mode), -one.kl if one.mode != "left-out" else one.kl))


def _rounded(tail: onnx.ModelProto, how: Rounding, mode: str) -> onnx.ModelProto:
    model = ir.from_proto(tail)
    round_layer(model, how, weights=mode != "activations", activations=mode != "weights")
    return ir.to_proto(model)


def _tails(
    proto: onnx.ModelProto, names: Sequence[str], x: np.ndarray, open_graph: OpenGraph
) -> Iterator[tuple[onnx.ModelProto, np.ndarray, list[str]]]:
    """Graph from a start to the logits, what the start holds for ``x``, and the layers behind it, start by start."""
    here, held = "", x
    for start, layers in starts(proto, names, len(x)):
        if start != here:
            held = logits_of(segment(proto, here, start), held, open_graph)
            here = start
        yield segment(proto, here, ""), held, layers


def logits_of(proto: onnx.ModelProto, x: np.ndarray, open_graph: OpenGraph) -> np.ndarray:
    """The first output of a graph for all of ``x``, float32; a fixed batch is fed in whole batches."""
    first = proto.graph.input[0].type.tensor_type.shape.dim[0]
    step = first.dim_value if first.HasField("dim_value") else BATCH
    run: Callable[[np.ndarray], Mapping[str, np.ndarray]] = open_graph(proto)
    name = proto.graph.output[0].name
    whole = max(step, len(x) // step * step) if first.HasField("dim_value") else len(x)
    return np.concatenate([np.asarray(run(x[i : i + step])[name]) for i in range(0, whole, step)])


BARS = 64


class ActivationFacts(TypedDict):
    """Range and histogram of an activation.

    ``low`` and ``high``: seen. ``range_low`` and ``range_high``: what the integers reach. ``clipped_ratio``: of the sampled
    values beyond it. ``histogram``: ``BARS`` counts between low and high.
    """

    tensor: str
    low: float
    high: float
    range_low: float
    range_high: float
    clipped_ratio: float
    histogram: list[int]


class WeightFacts(TypedDict):
    """Shape of a weight, its width in bits, the SNR of rounding, and how unlike its channels are (largest limit over the
    median).
    """

    shape: list[int]
    bits: int
    snr_db: float
    channel_spread: float


def activation_facts(seen: Observer, read: Affine) -> ActivationFacts:
    """What an activation looks like, and what is lost of it."""
    reach = read.dequantize(np.asarray([read.scheme.qmin, read.scheme.qmax]))
    centers, total = seen.centers(), max(1, int(seen.counts.sum()))
    beyond = (centers < reach[0] - read.scale / 2) | (centers > reach[1] + read.scale / 2)
    span = max(seen.high - seen.low, 1e-30)
    place = np.clip((centers - seen.low) / span * BARS, 0, BARS - 1).astype(np.int64)
    counts = np.bincount(place, weights=seen.counts, minlength=BARS).astype(np.int64)
    return {
        "tensor": seen.name,
        "low": seen.low,
        "high": seen.high,
        "range_low": float(reach[0]),
        "range_high": float(reach[1]),
        "clipped_ratio": float(seen.counts[beyond].sum() / total),
        "histogram": counts.tolist(),
    }


def weight_facts(node: ir.Node, how: Rounding) -> WeightFacts:
    """What a layer's weight looks like, and what is lost of it."""
    weight = constant(node.inputs[1])
    assert weight is not None
    axis = 0 if node.op_type == "Conv" or attribute(node, "transB", 0) else weight.ndim - 1
    limits = np.abs(weight).max(axis=tuple(i for i in range(weight.ndim) if i != axis))
    return {
        "shape": list(weight.shape),
        "bits": how.weight_bits,
        "snr_db": snr_db(weight, rounded_weight(node, how)),
        "channel_spread": float(limits.max() / max(float(np.median(limits)), 1e-12)),
    }
