"""``deploykit quantize --max-drop``: layers go back to float until the paired accuracy drop on ``select`` is within a bound.

Layers are ranked by what quantizing them alone costs (``sensitivity``), divided by what their float version is predicted to
cost in time. Sets of the first k are tried for growing k: accuracy may get worse at k = 1 or 2, so a worse step ends
nothing. Of the first set that holds the bound, members that turn out not to be needed become integers again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypedDict

import numpy as np
import onnx
import onnx_ir as ir

from deploykit.base.errors import BadInput
from deploykit.base.progress import SILENT, Progress
from deploykit.evaluation.agreement import agreement
from deploykit.evaluation.run_classifier import in_data_order
from deploykit.quantization.job import Job
from deploykit.quantization.qdq.graph import activation_inputs
from deploykit.quantization.qdq.placement_ort_cpu import ANCHORS, SAME_SCALE, Plan
from deploykit.quantization.search import Choice, OfGraphs, Quantizer, planned
from deploykit.quantization.sensitivity import LayerScore, sweep

SWEPT = 128


class MoveRow(TypedDict):
    """A layer that went back to float: with which nodes, what it costs alone in nats, and the milliseconds that its float
    version is predicted to take more; None where not known.
    """

    layer: str
    nodes: list[str]
    kl: float
    cost_ms: float | None


class DropFacts(TypedDict):
    """What a manifest keeps of holding the drop: asked for (``bound_pt``), found on so many pictures of ``select``, the layers
    back in float, and what was tried (number of layers, drop in points).
    """

    bound_pt: float
    drop_pt: float
    drop_pt_low: float
    drop_pt_high: float
    pictures: int
    reverted: list[MoveRow]
    tried: list[list[float]]


@dataclass(frozen=True)
class Held:
    """What the bound is held with: ``config.max_drop`` is set.

    ``x``: prepared pictures of ``select``, float32 [N, C, H, W]. ``logits``: of the float network, float32 [N, classes].
    """

    job: Job
    classes: tuple[str, ...] | None
    x: np.ndarray
    logits: np.ndarray

    def choice(self, quantizer: Quantizer, base: Choice) -> tuple[Choice, DropFacts]:
        """``base``, or it with layers taken back to float, and the facts for the manifest.

        The drop itself is held within the bound. Where no set of layers does that and leaves something in int8, the best
        one is taken, and a warning names what stands in the way: the judge tells by the drop's interval what it is worth.

        Raises:
            BadInput: the network has no classes.
        """
        bound = self.job.config.max_drop
        assert bound is not None
        if self.logits.ndim != 2 or self.logits.shape[1] < 2:
            raise BadInput(
                "--max-drop is of accuracy, and this is no classifier",
                got=f"a first output of shape {list(self.logits.shape)}",
                expected="[N, C]",
                fix="Leave it out: what is no classifier is judged by its SNR.",
            )

        def drop_of(choice: Choice) -> Mapping[str, Any]:
            return self._drop(quantizer.make(choice))

        first = drop_of(base)
        self.job.progress.say(f"all int8: drop {_shown(first)} on {len(self.logits)} pictures")
        if first["drop_pt"] <= bound:
            return base, self._facts(first, (), ())
        x = self.x[:SWEPT]
        alone = sweep(quantizer, base, x, self.job.opened.graph, ("alone",), self.job.progress)
        few = worth_costing(alone)
        names = [one.layer for one in few]
        weights = sweep(quantizer, base, x, self.job.opened.graph, ("weights",), self.job.progress, only=names)
        ranked = moves(quantizer, base, few, weights)
        if quantizer.dialect.costed and not self.job.config.force_int8:
            ranked = costed(quantizer, base, ranked, partial(self.job.costs_us, x=self.x))
        ranked += moves(quantizer, base, alone[len(few) :], ())
        found = revert(base, first, ranked, drop_of, bound, self.job.progress)
        if is_float(quantizer.make(found.choice)):
            found = replace(found, choice=base, drop=first, moves=(), held=False)
        if not found.held:
            self.job.progress.warn(
                f"no int8 network within {bound:g} points of float: the best of {len(found.tried)} drops "
                f"{_shown(found.drop)} with {len(found.moves)} layers float; in the way stand {blockers(ranked)}"
            )
        return found.choice, self._facts(found.drop, [move.said() for move in found.moves], found.tried)

    def _drop(self, made: onnx.ModelProto) -> Mapping[str, Any]:
        assert self.job.images.labels is not None
        logits = self.job.opened.logits(made, self.x)
        n = min(len(logits), len(self.logits))
        ours, base = (
            in_data_order(one[:n], self.classes, self.job.images.classes, name)
            for one, name in ((logits, "int8"), (self.logits, "float"))
        )
        return agreement(ours, base, self.job.images.labels[:n], seed=self.job.config.seed)

    def _facts(
        self, drop: Mapping[str, Any], reverted: Sequence[MoveRow], tried: Sequence[tuple[int, float]]
    ) -> DropFacts:
        bound = self.job.config.max_drop
        assert bound is not None
        return {
            "bound_pt": bound,
            "drop_pt": round(float(drop["drop_pt"]), 3),
            "drop_pt_low": round(float(drop["drop_pt_low"]), 3),
            "drop_pt_high": round(float(drop["drop_pt_high"]), 3),
            "pictures": len(self.logits),
            "reverted": list(reverted),
            "tried": [list(one) for one in tried],
        }


def _shown(drop: Mapping[str, Any]) -> str:
    return f"{drop['drop_pt']:.2f} pt ({drop['drop_pt_low']:.2f} … {drop['drop_pt_high']:.2f})"


COSTED = 16
NEGLIGIBLE = 1e-3
FLOOR = 0.005
INPUT_MATTERS = 0.1

DropOf = Callable[[Choice], Mapping[str, Any]]


@dataclass(frozen=True)
class Move:
    """One layer going back to float.

    ``nodes``: all that become float with it; where its input hurts, also what would round that input. ``kl``: what
    quantizing the layer alone costs, in nats. ``cost_us``: what the float version is predicted to take more, in
    microseconds an image; None where not known.
    """

    layer: str
    nodes: frozenset[str]
    kl: float
    cost_us: float | None = None

    def said(self) -> MoveRow:
        """For manifests."""
        cost = None if self.cost_us is None else round(self.cost_us / 1e3, 4)
        return {"layer": self.layer, "nodes": sorted(self.nodes), "kl": self.kl, "cost_ms": cost}


@dataclass(frozen=True)
class Reverted:
    """What the search found.

    ``drop``: of it, as ``evaluation.agreement`` gives it. ``moves``: layers that are float in it. ``held``: whether the
    bound is held. ``tried``: number of layers → drop in points, in the order tried.
    """

    choice: Choice
    drop: Mapping[str, Any]
    moves: tuple[Move, ...]
    held: bool
    tried: tuple[tuple[int, float], ...]


def moves(quantizer: Quantizer, base: Choice, alone: Sequence[LayerScore], weights: Sequence[LayerScore]) -> list[Move]:
    """A move for each layer that matters, most harmful first.

    ``base``: the choice that layers are taken out of. ``alone``: scores of mode ``alone``, most harmful first.
    ``weights``: scores of mode ``weights`` of the same layers.
    """
    by_weights = {one.layer: one.kl for one in weights}
    found = []
    for one in alone:
        input_hurts = one.kl - by_weights.get(one.layer, one.kl) > INPUT_MATTERS * one.kl
        nodes = rounding_nodes(quantizer, base, one.layer) if input_hurts else frozenset()
        found.append(Move(one.layer, nodes | {one.layer}, one.kl))
    return found


def rounding_nodes(quantizer: Quantizer, base: Choice, layer: str) -> frozenset[str]:
    """The nodes that would still round the input of ``layer`` if it alone were float.

    Where integer kernels round what they write, a float layer reads it rounded unless what writes it is float too.
    """
    model, plan = planned(quantizer.proto, replace(base, keep_float=base.keep_float | {layer}), quantizer.dialect)
    node = next(node for node in model.graph if node.name == layer)
    return frozenset(_writers(node, plan, set(plan.nodes), {one.outputs[0]: one for one in plan.absorbed}))


def _writers(node: ir.Node, plan: Plan, integer: set[ir.Node], absorbed: Mapping[ir.Value, ir.Node]) -> set[str]:
    names: set[str] = set()
    for _, value in activation_inputs(node):
        behind = absorbed[value].inputs[0] if value in absorbed else value
        writer = behind.producer() if behind is not None else None
        if writer is None or value not in plan.points or writer not in integer:
            continue
        names.add(writer.name or "")
        if writer.op_type in SAME_SCALE and writer.op_type not in ANCHORS:
            names |= _writers(writer, plan, integer, absorbed)
    return names


def costed(quantizer: Quantizer, base: Choice, found: Sequence[Move], costs: OfGraphs) -> list[Move]:
    """The moves with their predicted cost, most accuracy per microsecond first.

    A cost below ``FLOOR`` of the whole counts as that much: the prediction is not that fine.
    """
    graphs = {"": quantizer.make(base)} | {one.layer: quantizer.make(applied(base, [one])) for one in found}
    found_us = costs(graphs)
    with_cost = [replace(one, cost_us=found_us[one.layer] - found_us[""]) for one in found]
    return sorted(with_cost, key=lambda one: -one.kl / max(one.cost_us or 0.0, FLOOR * found_us[""]))


def applied(base: Choice, taken: Sequence[Move]) -> Choice:
    """``base`` with these layers float."""
    return replace(base, keep_float=base.keep_float.union(*(one.nodes for one in taken)))


def worth_costing(alone: Sequence[LayerScore]) -> list[LayerScore]:
    """The layers that make up nearly all of the damage, at most ``COSTED`` of them, most harmful first."""
    total = sum(one.kl for one in alone)
    return [one for one in alone[:COSTED] if one.kl > NEGLIGIBLE * total]


def revert(
    base: Choice,
    first_drop: Mapping[str, Any],
    ranked: Sequence[Move],
    drop_of: DropOf,
    bound_pt: float,
    progress: Progress = SILENT,
) -> Reverted:
    """Find a set of moves whose drop is within ``bound_pt``.

    ``base``: the choice that does not hold the bound. ``ranked``: moves in the order in which they are taken; one for
    each layer: the last stays int8. ``drop_of``: the paired drop of a choice against float; ``drop_pt`` is compared.
    ``bound_pt``: in percentage points.
    """
    tried = [(0, float(first_drop["drop_pt"]))]
    best = Reverted(base, first_drop, (), False, ())
    for k in _sizes(len(ranked) - 1):
        taken = tuple(ranked[:k])
        choice = applied(base, taken)
        drop = drop_of(choice)
        tried.append((k, float(drop["drop_pt"])))
        progress.say(f"{k} of {len(ranked)} layers float: drop {drop['drop_pt']:.2f} pt")
        if drop["drop_pt"] < best.drop["drop_pt"]:
            best = Reverted(choice, drop, taken, False, ())
        if drop["drop_pt"] <= bound_pt:
            held = _without_needless(base, Reverted(choice, drop, taken, True, ()), drop_of, bound_pt, progress)
            return replace(held, tried=tuple(tried))
    return replace(best, tried=tuple(tried))


def _sizes(layers: int) -> list[int]:
    """1, 2, 3 … up to ``COSTED``, then half as many again each time, up to ``layers``."""
    sizes = list(range(1, min(layers, COSTED) + 1))
    while sizes and sizes[-1] < layers:
        sizes.append(min(layers, sizes[-1] * 3 // 2))
    return sizes


def _without_needless(base: Choice, found: Reverted, drop_of: DropOf, bound_pt: float, progress: Progress) -> Reverted:
    """The same without members that the bound does not need; the last ``COSTED`` but the very last are looked at."""
    for one in found.moves[-2 : -2 - COSTED : -1]:
        fewer = tuple(move for move in found.moves if move is not one)
        choice = applied(base, fewer)
        drop = drop_of(choice)
        if drop["drop_pt"] <= bound_pt:
            progress.say(f"{one.layer} may be int8 again: drop {drop['drop_pt']:.2f} pt")
            found = Reverted(choice, drop, fewer, True, ())
    return found


def blockers(ranked: Sequence[Move], limit: int = 3) -> str:
    """The most harmful layers in words."""
    worst = sorted(ranked, key=lambda one: -one.kl)[:limit]
    return ", ".join(f"{one.layer} (KL {one.kl:.2g})" for one in worst)


def is_float(made: onnx.ModelProto) -> bool:
    """Whether no layer of a quantized graph reads integers."""
    return not any(node.op_type == "DequantizeLinear" for node in made.graph.node)
