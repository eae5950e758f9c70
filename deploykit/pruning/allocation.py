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
from typing import Protocol

LOOK_AHEAD = 4


@dataclass(frozen=True)
class Choices:
    """What one group offers.

    Attributes:
        name: of the group, for messages.
        widths: channels it may keep, the full width first, falling.
        losses: importance lost at each width, 0 first, not falling.
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

    Attributes:
        widths: per group.
        cost: of the whole, as the cost function has it.
        loss: importance lost.
        fits: whether the budget holds; False: every group is at its lowest width.
    """

    widths: tuple[int, ...]
    cost: float
    loss: float
    fits: bool


def allocate(groups: Sequence[Choices], cost: Cost, budget: float) -> Allocation:
    """Lower widths step by step until ``cost`` is at most ``budget``, then give back what was not needed.

    Args:
        groups: what can be pruned.
        cost: of the network at given widths.
        budget: in the cost's unit.
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
