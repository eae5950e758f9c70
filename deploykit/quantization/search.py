"""The choices of a quantization: which part stays float by what its kernels cost, which ranges by the error of the logits.

Costs are predicted (:mod:`deploykit.quantization.kernel_cost`), never measured: the same command makes the same choices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from deploykit.base.progress import SILENT
from deploykit.evaluation.output_groups import powers
from deploykit.quantization.bias_correction import shift_biases
from deploykit.quantization.observers import Observer
from deploykit.quantization.qdq.dialects import DEFAULT, Dialect
from deploykit.quantization.qdq.emit import emit_qdq
from deploykit.quantization.qdq.graph import narrow_points, only_reader
from deploykit.quantization.qdq.placement_ort_cpu import Plan
from deploykit.quantization.qdq.prepare import prepare
from deploykit.quantization.ranges import PERCENTILE, parameters
from deploykit.quantization.rewrites.depthwise import as_depthwise
from deploykit.quantization.rewrites.grouped_conv import merge_groups
from deploykit.quantization.rewrites.padding import pad_grouped
from deploykit.quantization.rewrites.se_gates import spread_gates
from deploykit.quantization.rewrites.stem import reshape_stem
from deploykit.quantization.schemes import affine

PREFIX_CANDIDATES = 6
PREFIX_NODES = 24
SLACK = 1.03
"""Predicted to cost so many times the cheapest, a candidate is as cheap: the plainest is taken where none is nearer."""
ERROR = 1.10
"""Predicted to cost so many times the cheapest, a candidate may be the fastest: of those of ``make bench BENCH=kernel_cost``
that are predicted within 15 % of int8 throughout, three of four are measured within 10 % of their prediction."""
LEAST_GAIN_DB = 0.5
DB_PER_PERCENT = 0.5
"""What a percent of predicted time beyond ``SLACK`` has to bring: 1 dB for 2 %."""
_MOST_DB = 100.0

OfGraphs = Callable[[Mapping[str, onnx.ModelProto]], Mapping[str, float]]
"""Graphs by name → what each costs in microseconds, or how near its answers are to float's in dB."""
Say = Callable[[str], None]
"""Takes a line for people."""


@dataclass(frozen=True)
class Choice:
    """One way to quantize a network.

    ``prefix``: names of the nodes before the cut, which stay float. ``keep_float``: names of further float nodes.
    ``float_adds``: residual sums stay float. ``float_head``: the classifier stays float.
    """

    prefix: frozenset[str] = frozenset()
    keep_float: frozenset[str] = frozenset()
    float_adds: bool = False
    float_head: bool = False
    method: str = "mse"

    def said(self) -> dict[str, object]:
        """JSON-able, for manifests."""
        return {
            "float_prefix_nodes": len(self.prefix),
            "keep_float": sorted(self.keep_float),
            "float_adds": self.float_adds,
            "float_head": self.float_head,
            "method": self.method,
        }


@dataclass
class Quantizer:
    """A float network with the statistics of its activations: makes any :class:`Choice` of it without calibrating again.

    Attributes:
        proto: the float network.
        seen: activation name (of the prepared graph) → observer.
        percentile: for that method.
        dialect: what the target wants to read.
        rounded: name of a layer → its integer weights, where not those nearest (``adaround``).
        shifts: name of a layer → what is added to its bias, float32 [C] (``bias_correction``).
        ranges: activation name → range that was learned, in place of one from ``seen``.
        limits: name of a layer → what its channels' largest integers mean, float32 [C], where that was learned.
    """

    proto: onnx.ModelProto
    seen: Mapping[str, Observer]
    percentile: float = PERCENTILE
    dialect: Dialect = DEFAULT
    rounded: Mapping[str, np.ndarray] = field(default_factory=dict)
    shifts: Mapping[str, np.ndarray] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    limits: Mapping[str, np.ndarray] = field(default_factory=dict)

    @cached_property
    def prepared(self) -> ir.Model:
        """The float network as plans are made on, not to be changed."""
        return prepare(self.proto)

    def make(self, choice: Choice) -> onnx.ModelProto:
        """The Q/DQ network."""
        model, plan = planned(self.prepared, choice, self.dialect)
        kept = choice.prefix | choice.keep_float
        shift_biases(model.graph, {name: shift for name, shift in self.shifts.items() if name not in kept})
        needed = {plan.shared.get(value, value).name or "" for value in plan.points}
        chosen = parameters(
            {name: self.seen[name] for name in needed if name in self.seen},
            self.dialect.activations,
            choice.method,
            percentile=self.percentile,
        )
        dialect = self.dialect
        chosen |= {name: affine(*self.ranges[name], dialect.activations) for name in needed if name in self.ranges}
        made = emit_qdq(
            model,
            plan,
            chosen,
            weight_bits=dialect.weight_bits,
            paired=dialect.paired,
            integer_bias=dialect.integer_bias,
            rounded=self.rounded,
            limits=self.limits,
        )
        if dialect.padded:
            spread_gates(made.graph)
        return ir.to_proto(common.RemoveUnusedNodesPass()(made).model)


def planned(
    network: onnx.ModelProto | ir.Model, choice: Choice, dialect: Dialect = DEFAULT, *, padded: bool = True
) -> tuple[ir.Model, Plan]:
    """The prepared float network, rewritten as the dialect wants it, with the plan of ``choice`` on it.

    ``network``: as it was exported, or prepared, which stays as it is. Not ``padded``, the exact rewrites that change no number (padded channels, a rearranged stem) are left out.
    """
    model = network.clone() if isinstance(network, ir.Model) else prepare(network)
    kept = choice.prefix | choice.keep_float
    if dialect.padded:
        as_depthwise(model.graph, keep=kept)
    if dialect.padded and padded:
        pad_grouped(model.graph, keep=kept)
        merge_groups(model.graph, keep=kept)
        reshape_stem(model.graph, keep=kept)
    plan = dialect.plan(model.graph, kept, float_adds=choice.float_adds, float_head=choice.float_head)
    return model, plan


def cuts(graph: ir.Graph) -> list[frozenset[str]]:
    """Places near the input where the float part may end: one value carries the network, its activation included."""
    found: list[frozenset[str]] = []
    for node, names in narrow_points(graph):
        follower = only_reader(node.outputs[0])
        if len(names) > PREFIX_NODES or len(found) == PREFIX_CANDIDATES:
            break
        if follower is None or follower.op_type in ("Conv", "Add", "Gemm", "MatMul"):
            found.append(names)
    return found


def choose_prefix(
    quantizer: Quantizer, base: Choice, costs: OfGraphs, near: OfGraphs, most: int, say: Say = SILENT.say
) -> Choice:
    """Keep the first nodes float where that is cheaper, or nearer for what it costs: a stem of few channels gains little.

    ``most``: candidates whose answers are looked at. ``say``: takes the line that tells the choice and its reason.
    """
    candidates = {"no float prefix": base}
    for names in cuts(quantizer.prepared.graph):
        candidates[f"the first {len(names)} nodes float"] = replace(base, prefix=names)
    return _cheap_and_near(candidates, quantizer, costs, near, most, say)


def choose_float_parts(
    quantizer: Quantizer, base: Choice, costs: OfGraphs, near: OfGraphs, most: int, say: Say = SILENT.say
) -> Choice:
    """Keep residual sums and the classifier float where that brings the logits nearer for what it costs.

    ``most``, ``say``: as of :func:`choose_prefix`.
    """
    candidates = {
        "int8 sums and classifier": base,
        "float classifier": replace(base, float_head=True),
        "float sums": replace(base, float_adds=True),
        "float sums and classifier": replace(base, float_adds=True, float_head=True),
    }
    return _cheap_and_near(candidates, quantizer, costs, near, most, say)


def _cheap_and_near(
    candidates: Mapping[str, Choice], quantizer: Quantizer, costs_of: OfGraphs, near: OfGraphs, most: int, say: Say
) -> Choice:
    """Accuracy first: the nearest of the candidates that the prediction cannot tell from the cheapest, for a price in dB.

    The plain choice is the first candidate within ``SLACK`` of the cheapest, else the cheapest. Another within ``ERROR`` is
    taken where it is nearer by ``LEAST_GAIN_DB``, and by ``DB_PER_PERCENT`` more for each percent that it costs beyond
    ``SLACK``: 3 dB at 8 %, 4 dB at 10 %. The plain one and the cheapest others are looked at, ``most`` in all.
    """
    graphs = {name: quantizer.make(choice) for name, choice in candidates.items()}
    costs = costs_of(graphs)
    by_cost = sorted(costs, key=lambda name: costs[name])
    cheapest, first = costs[by_cost[0]], next(iter(costs))
    plain = first if costs[first] <= SLACK * cheapest else by_cost[0]
    others = [name for name in by_cost if name != plain and costs[name] <= ERROR * cheapest]
    looked_at = others[: most - 1]
    best, db = plain, dict[str, float]()
    if looked_at:
        db = dict(near({name: graphs[name] for name in (plain, *looked_at)}))
        worth = {name: db[name] - DB_PER_PERCENT * 100 * max(0.0, costs[name] / cheapest - SLACK) for name in db}
        nearest = max(worth, key=lambda name: worth[name])
        best = nearest if worth[nearest] >= worth[plain] + LEAST_GAIN_DB else plain
    shown = (f"{name} {costs[name]:.0f} µs" + (f" {db[name]:.1f} dB" if name in db else "") for name in costs)
    say(f"{best} (predicted: {', '.join(shown)})")
    return candidates[best]


def choose_ranges(
    quantizer: Quantizer, base: Choice, methods: Sequence[str], near: OfGraphs, say: Say = SILENT.say
) -> tuple[Choice, dict[str, float]]:
    """The method of ranges whose logits are nearest to the float network's, with the nearness in dB of each."""
    snr = dict(near({method: quantizer.make(replace(base, method=method)) for method in methods}))
    best = max(snr, key=lambda method: snr[method])
    if len(methods) > 1:
        say(f"ranges by {best}: " + ", ".join(f"{name} {value:.1f} dB" for name, value in snr.items()))
    return replace(base, method=best), snr


def nearness_db(reference: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> float:
    """What choices are made by: how near all outputs are, of which the worst group of like scale counts.

    In a group it is the mean of :func:`picture_snr_db` and :func:`snr_db`.

    The SNR of all logits together is that of the few pictures with the largest ones: ranges wide enough for these may
    ruin all others. The mean of the pictures' own SNRs alone would clip the largest for a gain of a tenth of a dB.

    ``reference``, ``other``: every output, float [N, …]; a classifier's only one is [N, C].
    """
    if not all(np.isfinite(one).all() for one in other):
        return -_MOST_DB
    if len(reference) == 1 and reference[0].ndim == 2:
        exact = reference[0].astype(np.float64)
        groups = [((exact**2).sum(axis=1), ((exact - other[0]) ** 2).sum(axis=1))]
    else:
        groups = [group for pair in zip(reference, other, strict=True) for group in powers(*pair)]
    return min(((_picture_snr_db(*group) + _snr_db(*group)) / 2 for group in groups), default=0.0)


def picture_snr_db(reference: np.ndarray, other: np.ndarray) -> float:
    """The mean over pictures of each one's own SNR, in dB.

    ``reference``, ``other``: float [N, C].
    """
    exact = reference.astype(np.float64)
    return _picture_snr_db((exact**2).sum(axis=1), ((exact - other) ** 2).sum(axis=1))


def _picture_snr_db(power: np.ndarray, noise: np.ndarray) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        each = 10 * np.log10(power / noise)
    return float(np.clip(np.nan_to_num(each, nan=_MOST_DB, posinf=_MOST_DB), -_MOST_DB, _MOST_DB).mean())


def snr_db(reference: np.ndarray, other: np.ndarray) -> float:
    """Power of the reference over the power of the difference, in dB; 200 where they are equal."""
    exact = reference.astype(np.float64)
    return _snr_db(exact**2, (exact - other) ** 2)


def _snr_db(power: np.ndarray, noise: np.ndarray) -> float:
    with np.errstate(divide="ignore"):
        return 200.0 if noise.sum() == 0 else 10 * float(np.log10(power.sum() / noise.sum()))
