"""Narrow a network step by step until it fits a budget, with layers that are asked to stay or to have a width."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch import nn

from deploykit.base.errors import BadInput, nearest
from deploykit.base.progress import Progress
from deploykit.config.registries import CRITERIA
from deploykit.pruning.channel_graph import Graph, Group
from deploykit.pruning.group_cost import Costs
from deploykit.pruning.importance import Scores
from deploykit.pruning.surgery import no_atoms
from deploykit.pruning.widths import (
    LEAST,
    WIDE,
    WIDE_SPARSE,
    Ladder,
    TooSmall,
    channels_for,
    chosen,
    comparable,
    ladder,
)
from deploykit.reporting.format import percent

UNDERSHOT = 0.8
"""Of what was asked for: where less is left it is told why."""
Scope = Literal["local", "global", "isomorphic", "allocated"]


@dataclass(frozen=True)
class Plan:
    """How a network is narrowed.

    ``scope``: which channels compete. ``ladders``: widths that each group may have. ``sized``: group index → width that
    it gets in any case. ``absolute``: whether scores are comparable between groups as they are.
    """

    scope: Scope
    ladders: tuple[Ladder, ...]
    sized: Mapping[int, int]
    absolute: bool = False


def plan(
    graph: Graph,
    scope: Scope,
    round_to: Literal["auto"] | int,
    ratios: Mapping[int, float],
    criterion: str,
    *,
    sparse: bool = False,
) -> Plan:
    """Fix the ladders on the unpruned widths.

    ``scope``: which channels compete. ``round_to``: multiple that widths keep. ``ratios``: group index → fraction that
    stays. ``criterion``: that scores. ``sparse``: a 2:4 pattern is to follow.
    """
    least = 0.0 if scope in ("local", "allocated") else LEAST
    wide = WIDE_SPARSE if sparse else WIDE
    ladders = [ladder(group, round_to, least, wide) for group in graph.groups]
    sized = {}
    for index, ratio in ratios.items():
        free = ladder(graph.groups[index], round_to, wide=wide)
        sized[index] = free.at_most(ratio * graph.groups[index].width)
        ladders[index] = Ladder((sized[index],))
    return Plan(scope, tuple(ladders), sized, CRITERIA.find(criterion).comparable)


def removal(graph: Graph, scores: Scores, widths: np.ndarray) -> np.ndarray:
    """The atoms that go, the least of each group, when the groups are to have ``widths``: bool over atom ids."""
    removed = no_atoms(graph)
    for group, score, width in zip(graph.groups, scores, widths, strict=True):
        if width < group.width:
            removed[chosen(group, score, int(width))] = True
    return removed


def pinned(how: Plan, graph: Graph, groups: Sequence[Group]) -> Plan:
    """The plan in which these groups keep the width that they have now."""
    atoms = {int(group.atoms[0]) for group in groups}
    at = {index: group.width for index, group in enumerate(graph.groups) if int(group.atoms[0]) in atoms}
    ladders = tuple(Ladder((at[index],)) if index in at else one for index, one in enumerate(how.ladders))
    return replace(how, ladders=ladders, sized={**how.sized, **at})


def widths_for(
    budget: float, cost: Callable[[np.ndarray], float], graph: Graph, how: Plan, scores: Scores
) -> np.ndarray:
    """The widths, int [groups], that cost at most ``budget``.

    Raises:
        TooSmall: the budget is below the floor.
    """
    start = np.array([group.width for group in graph.groups], dtype=np.int64)
    for index, width in how.sized.items():
        start[index] = width
    return channels_for(budget, cost, how.ladders, start, ranked(scores, graph, how))


def ranked(scores: Scores, graph: Graph, how: Plan) -> Scores | None:
    """The scores as they compete between layers; None where the scope lets channels compete within theirs only."""
    if how.scope == "global" or how.scope == "isomorphic":
        return comparable(scores, graph, how.scope, how.absolute)
    return None


def step_budgets(total: float, fraction: float, steps: int) -> Sequence[float]:
    """Budgets of an iterative schedule, linear from ``total`` down to ``fraction`` of it."""
    return [total * (1 - (1 - fraction) * step / steps) for step in range(1, steps + 1)]


def undershot(name: str, asked: float, kept: float, round_to: Literal["auto"] | int) -> str | None:
    """One line on why far less is left than was asked for; None where that is not so.

    ``name``: of what was counted: ``macs`` or ``params``. ``asked`` and ``kept``: fractions of the whole network's.
    """
    if kept >= UNDERSHOT * asked:
        return None
    unit = "parameters" if name == "params" else "MACs"
    rounded = "" if round_to == 1 else " rounded to multiples" + ("" if round_to == "auto" else f" of {round_to}")
    finer = "" if round_to == 1 else "; --round-to 1 takes finer steps"
    return (
        f"{percent(kept, 1)} of the {unit} are left, {percent(asked, 1)} were asked for: with widths{rounded} any layer "
        f"one step wider would cost more than that{finer}"
    )


def check_floor(fraction: float, name: str, total: float, cost: Callable[[np.ndarray], float], how: Plan) -> None:
    """Refuse a budget that cannot be reached, before any work.

    Raises:
        BadInput: below the floor, which is said.
    """
    floor = cost(np.array([one.widths[0] for one in how.ladders], dtype=np.int64))
    if floor > fraction * total:
        raise too_small(TooSmall(floor), fraction, name, total)


def too_small(error: TooSmall, fraction: float, name: str, total: float) -> BadInput:
    """The floor in the user's terms."""
    least = next((up for unit in (1e3, 1e6) if (up := np.ceil(unit * error.floor / total) / unit) < 1), None)
    if least is None:
        return BadInput(
            f"--{name} {fraction:g} cannot be reached: protected layers and the narrowest widths cost as much as all",
            fix="Name fewer --keep layers, or use a smaller --round-to.",
        )
    return BadInput(
        f"--{name} {fraction:g} is below what protected layers and the narrowest widths cost",
        expected=f"at least {least:g}",
        fix="Ask for more, name fewer --keep layers, or use a smaller --round-to.",
    )


def costs_of(module: nn.Module, graph: Graph, macs: int) -> Costs:
    """The cost functions of a network whose MACs are known."""
    return Costs(graph, macs, {name: tuple(parameter.shape) for name, parameter in module.named_parameters()})


def tell_widths(graph: Graph, ratios: Mapping[int, float], how: Plan, progress: Progress, *, alone: bool) -> None:
    """Warn of every group whose width is not what its ratio says.

    ``graph``: of the network as it comes. ``ratios``: group index → fraction asked for. ``how``: with the widths that
    rounding allows. ``alone``: whether nothing but the ratios changes the network.

    Raises:
        BadInput: the ratios are all there is to do, and no width changes.
    """
    for index, ratio in ratios.items():
        group, width = graph.groups[index], how.sized[index]
        width, channels = width * group.rows, group.width * group.rows
        asked = ratio * channels
        if abs(width - asked) >= 1:
            names = ", ".join(group.producers[:3]) + ", …" * (len(group.producers) > 3)
            progress.warn(
                f"--ratio {ratio:g} of {names}: {asked:.4g} of {channels} channels asked, {width} stay by --round-to"
            )
    if alone and ratios and all(how.sized[index] == graph.groups[index].width for index in ratios):
        widths = ", ".join(
            f"{group.width * group.rows} channels" for group in (graph.groups[index] for index in ratios)
        )
        raise BadInput(
            "no --ratio changes a width",
            got=f"the ratios {', '.join(f'{ratio:g}' for ratio in ratios.values())} of {widths}",
            fix="Ask for less, or use a smaller --round-to.",
        )


ASKED = "it was asked to stay"


def keep_layers(graph: Graph, names: Iterable[str]) -> Graph:
    """The graph with these layers' channels kept whole; a module's name stands for all layers in it.

    Raises:
        BadInput: no such layer (the nearest one is suggested).
    """
    for name in names:
        layers = layers_named(graph.producer_names(), name)
        graph = graph.without([group for group in graph.groups if _makes(graph, group, layers)], ASKED)
    return graph


def sized(graph: Graph, ratios: Mapping[str, float]) -> dict[int, float]:
    """Group index → fraction of its channels that stays.

    Raises:
        BadInput: no such layer, one whose width must stay, or two layers of one group with different fractions.
    """
    found: dict[int, float] = {}
    named: dict[int, str] = {}
    for name, ratio in ratios.items():
        layers = layers_named(graph.producer_names(), name)
        indices = [index for index, group in enumerate(graph.groups) if _makes(graph, group, layers)]
        if not indices:
            why = next((graph.kept[layer] for layer in layers if layer in graph.kept), "it has no channels of its own")
            raise BadInput(f"the width of {name} cannot change: {why}", fix="Leave its --ratio out.")
        for index in indices:
            if found.setdefault(index, ratio) != ratio:
                raise BadInput(
                    f"{named[index]} and {name} have the same channels",
                    got=f"the ratios {found[index]:g} and {ratio:g}",
                    expected="one ratio",
                )
            named.setdefault(index, name)
    return found


def layers_named(known: Sequence[str], name: str) -> set[str]:
    """The layers of ``known`` that a layer's or a module's name means.

    Raises:
        BadInput: none (the nearest one is suggested).
    """
    found = {layer for layer in known if layer == name or layer.startswith(f"{name}.")}
    if not found:
        close = nearest(name, [*known, *{part for layer in known for part in _modules(layer)}])
        raise BadInput(
            f"unknown layer {name!r}",
            expected="a convolution or linear layer, or a module that holds some",
            fix=f"Did you mean {close!r}?" if close else "`deploykit inspect MODEL --layers` lists them.",
        )
    return found


def _modules(layer: str) -> list[str]:
    parts = layer.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _makes(graph: Graph, group: Group, layers: set[str]) -> bool:
    """Whether one of the layers has the group's channels as its outputs (a depthwise one passes them through)."""
    if layers & set(group.producers):
        return True
    atoms = set(group.atoms.tolist())
    through = [layer for layer in graph.layers if layer.depthwise and layer.name in layers]
    return any(atoms & set(graph.root[layer.outputs].tolist()) for layer in through)
