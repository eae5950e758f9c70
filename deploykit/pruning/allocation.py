"""How many channels each group keeps so that the least importance is lost within a budget: a knapsack, solved greedily.

Every group of channels that can only be pruned together offers a row of widths. Going to the next lower one loses some
importance and saves some cost; the step with the least loss per saving is taken until the budget holds. For losses that
grow convexly this is the optimum of the relaxed multiple-choice knapsack (Kellerer, Pferschy, Pisinger, "Knapsack
Problems", 2004, section 11.2); several steps at once are looked at, because measured time falls in stairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal, Protocol

import numpy as np

from deploykit.pruning.channel_graph import Graph
from deploykit.pruning.group_cost import Costs
from deploykit.pruning.importance import Scores
from deploykit.pruning.latency.cost import losses_of
from deploykit.pruning.prune_channels import Plan, ranked
from deploykit.pruning.widths import TooSmall

LOOK_AHEAD = 4


@dataclass(frozen=True)
class Choices:
    """What one group offers.

    ``name``: of the group, for messages. ``widths``: channels it may keep, the full width first, falling. ``losses``:
    importance lost at each width, 0 first, not falling.
    """

    name: str
    widths: tuple[int, ...]
    losses: tuple[float, ...]


class Cost(Protocol):
    """What a network costs at given widths, as a sum of parts that each depend on few groups."""

    def total(self, widths: Sequence[int]) -> float:
        """Of the whole network."""
        ...

    def around(self, group: int, widths: Sequence[int]) -> float:
        """Of those parts only that depend on ``group``."""
        ...


@dataclass(frozen=True)
class Allocation:
    """What was chosen.

    ``widths``: per group. ``cost``: of the whole, as the cost function has it. ``loss``: importance lost. ``fits``:
    whether the budget holds; False: every group is at its lowest width.
    """

    widths: tuple[int, ...]
    cost: float
    loss: float
    fits: bool


def allocate(groups: Sequence[Choices], cost: Cost, budget: float) -> Allocation:
    """Lower widths step by step until ``cost`` is at most ``budget``, then give back what was not needed.

    ``groups``: what can be pruned. ``cost``: of the network at given widths. ``budget``: in the cost's unit.
    """
    at = [0] * len(groups)
    widths = [group.widths[0] for group in groups]
    total = cost.total(widths)
    while total > budget:
        step = _best(groups, cost, at, widths)
        if step is None:
            break
        group, level = step
        total -= _move(groups, cost, at, widths, group, level)
    _give_back(groups, cost, at, widths, budget)
    total = cost.total(widths)
    loss = sum(group.losses[level] for group, level in zip(groups, at, strict=True))
    return Allocation(tuple(widths), total, loss, total <= budget)


def _best(groups: Sequence[Choices], cost: Cost, at: list[int], widths: list[int]) -> tuple[int, int] | None:
    """The group and level with the least importance lost per cost saved; the largest saving where none saves."""
    best: tuple[int, int] | None = None
    least = inf
    for i, group in enumerate(groups):
        before = cost.around(i, widths)
        for level in range(at[i] + 1, min(at[i] + 1 + LOOK_AHEAD, len(group.widths))):
            after = _around(cost, i, widths, group.widths[level])
            saved, lost = before - after, group.losses[level] - group.losses[at[i]]
            rate = lost / saved if saved > 0 else inf
            if rate < least or best is None:
                best, least = (i, level), rate
    return best


def _around(cost: Cost, group: int, widths: list[int], width: int) -> float:
    before = widths[group]
    widths[group] = width
    try:
        return cost.around(group, widths)
    finally:
        widths[group] = before


def _move(groups: Sequence[Choices], cost: Cost, at: list[int], widths: list[int], group: int, level: int) -> float:
    """Set a group's level; returns what that saves."""
    before = cost.around(group, widths)
    at[group], widths[group] = level, groups[group].widths[level]
    return before - cost.around(group, widths)


def _give_back(groups: Sequence[Choices], cost: Cost, at: list[int], widths: list[int], budget: float) -> None:
    """Widen groups again, the most important channels first, as far as the budget holds."""
    while True:
        total = cost.total(widths)
        gains: list[tuple[float, int]] = []
        for i, group in enumerate(groups):
            if at[i] == 0:
                continue
            more = _around(cost, i, widths, group.widths[at[i] - 1]) - cost.around(i, widths)
            if total + more <= budget:
                gains.append((group.losses[at[i]] - group.losses[at[i] - 1], i))
        if not gains:
            return
        _, i = max(gains)
        _move(groups, cost, at, widths, i, at[i] - 1)


def allocated_widths(
    budget: float, name: Literal["macs", "params"], costs: Costs, graph: Graph, how: Plan, scores: Scores
) -> np.ndarray:
    """The widths, int [groups], that lose least importance of those that cost at most ``budget``.

    ``budget``: in MACs of one picture, or parameters. ``how``: ladders of the groups, and what their scores mean.
    ``scores``: of each group's channels.

    Raises:
        TooSmall: the budget is below the floor.
    """
    found = allocate(choices(graph, how, scores), _Parts(costs, name), budget)
    if not found.fits:
        raise TooSmall(found.cost)
    return np.array(found.widths, dtype=np.int64)


class _Parts:
    """MACs or parameters as :class:`deploykit.pruning.allocation.Cost` asks for them."""

    def __init__(self, costs: Costs, name: Literal["macs", "params"]) -> None:
        self.whole = costs.macs if name == "macs" else costs.params
        self.parts = costs.macs_parts() if name == "macs" else costs.params_parts()
        groups = range(len(costs.widths))
        self.touching = [[cost for cost, share in self.parts if share[group]] for group in groups]

    def total(self, widths: Sequence[int]) -> float:
        return self.whole(np.asarray(widths))

    def around(self, group: int, widths: Sequence[int]) -> float:
        at = np.asarray(widths)
        return sum(cost(at) for cost in self.touching[group])


def choices(graph: Graph, how: Plan, scores: Scores) -> list[Choices]:
    """The widths that each group may still have, and what they lose.

    Scores that are not comparable between layers give noise over signal, which counts once for each layer that writes the
    channels (a residual stream has many) and per channel: the more channels a layer has, the less its readers miss a share
    of them. Measured on a trained residual network, what a group costs in answers follows that rule within its stages and
    between them.
    """
    between = ranked(scores, graph, how)
    one_unit = how.absolute or between is not None
    found = []
    for group, one, own in zip(graph.groups, how.ladders, scores if between is None else between, strict=True):
        widths = tuple(width for width in reversed(one.widths) if width <= group.width)
        losses = losses_of(own, widths, comparable=one_unit)
        weight = 1.0 if one_unit else len(group.producers) / one.widths[-1]
        found.append(Choices(group.name, widths, tuple(weight * loss for loss in losses)))
    return found
