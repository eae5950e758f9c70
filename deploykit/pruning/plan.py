"""Narrow a network step by step until it fits a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import nn

from deploykit.base.errors import BadInput
from deploykit.pruning.graph import Graph
from deploykit.pruning.importance import Scores
from deploykit.pruning.macs import Costs
from deploykit.pruning.surgery import no_atoms, remove
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

Scope = Literal["local", "global", "isomorphic", "allocated"]
ABSOLUTE = ("taylor", "hessian", "lamp")
"""Criteria whose scores are comparable between layers as they are."""


@dataclass(frozen=True)
class Plan:
    """How a network is narrowed.

    Attributes:
        scope: which channels compete.
        ladders: widths that each group may have.
        sized: group index → width that it gets in any case.
        absolute: whether scores are comparable between groups as they are.
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

    Args:
        graph: of the network.
        scope: which channels compete.
        round_to: multiple that widths keep.
        ratios: group index → fraction that stays.
        criterion: that scores.
        sparse: a 2:4 pattern is to follow.
    """
    least = 0.0 if scope in ("local", "allocated") else LEAST
    wide = WIDE_SPARSE if sparse else WIDE
    ladders = [ladder(group, round_to, least, wide) for group in graph.groups]
    sized = {}
    for index, ratio in ratios.items():
        free = ladder(graph.groups[index], round_to, wide=wide)
        sized[index] = free.at_most(ratio * graph.groups[index].width)
        ladders[index] = Ladder((sized[index],))
    return Plan(scope, tuple(ladders), sized, criterion in ABSOLUTE)


def narrow(module: nn.Module, graph: Graph, how: Plan, scores: Scores, widths: np.ndarray) -> Graph:
    """Take the least channels out of ``module``, in place, until its groups have ``widths``; the graph of what is left."""
    removed = no_atoms(graph)
    for group, score, width in zip(graph.groups, scores, widths, strict=True):
        if width < group.width:
            removed[chosen(group, score, int(width))] = True
    remove(module, graph, removed)
    return graph.after(removed)


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
