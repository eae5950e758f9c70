"""From a budget to a width for every group.

The result costs at most what was asked, and any group one step wider would cost more than that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from deploykit.base.errors import BadInput
from deploykit.pruning.channel_graph import Graph, Group

Cost = Callable[[np.ndarray], float]
WIDE = 64
WIDE_SPARSE = 32
"""Where 2:4 is wanted layers are rounded to its 16 inputs as soon as that leaves a choice."""
LEAST = 0.1
"""Of a layer's channels, what scopes that let layers compete leave: below it a layer is a bottleneck for all."""


@dataclass(frozen=True)
class Ladder:
    """The widths that a group may have, ascending; the last is its present one."""

    widths: tuple[int, ...]

    def at_most(self, width: float) -> int:
        """The widest one that is not above ``width``, or the narrowest there is."""
        return max((one for one in self.widths if one <= width + 1e-9), default=self.widths[0])

    def below(self, width: int) -> int | None:
        """The next narrower one."""
        return max((one for one in self.widths if one < width), default=None)

    def above(self, width: int) -> int | None:
        """The next wider one."""
        return min((one for one in self.widths if one > width), default=None)


def ladder(group: Group, round_to: Literal["auto"] | int, least: float = 0.0, wide: int = WIDE) -> Ladder:
    """The widths of a group as it is in the unpruned network.

    ``auto`` rounds to 16 from 64 channels on (what int8 and float kernels work in), to 8 from 16 on, to 4 from 8 on; grouped
    convolutions need a multiple of their groups besides.

    ``round_to``: multiple that widths keep. ``least``: fraction of the width that must stay. ``wide``: from how many
    channels on ``auto`` rounds to 16.
    """
    width, channels = group.width, group.width * group.rows
    step = (
        (16 if channels >= wide else 8 if channels >= 16 else 4 if channels >= 8 else 1)
        if round_to == "auto"
        else round_to
    )
    step = math.lcm(math.lcm(step, group.rows) // group.rows, group.block_count)
    found = [one for one in range(step, width, step) if one >= least * width]
    return Ladder((*found, width))


def channels_for(
    budget: float, cost: Cost, ladders: Sequence[Ladder], start: np.ndarray, scores: Sequence[np.ndarray] | None = None
) -> np.ndarray:
    """The widths, int [groups], whose cost is at most ``budget``.

    ``budget``: in the unit of ``cost``. ``cost``: widths → cost, growing with each width. ``ladders``: of the groups; a
    group that is not to be chosen for has one width. ``start``: present widths. ``scores``: of each group's channels,
    sorted from the least on, comparable between groups: the least go first; None: all groups keep the same fraction.

    Raises:
        BadInput: the narrowest widths cost more; the floor is in the message's ``expected`` as a cost.
    """
    narrowest = np.array([one.widths[0] for one in ladders], dtype=np.int64)
    if (floor := cost(narrowest)) > budget:
        raise TooSmall(floor)
    widths = _uniform(budget, cost, ladders, start) if scores is None else _ranked(budget, cost, ladders, start, scores)
    return _filled(budget, cost, ladders, start, widths, scores)


class TooSmall(BadInput):
    """A budget below what the protected layers and the narrowest widths cost.

    ``floor``: that cost, in the unit of the budget.
    """

    def __init__(self, floor: float) -> None:
        super().__init__("the budget is below what protected layers and the narrowest widths cost", expected=floor)
        self.floor = floor


def _uniform(budget: float, cost: Cost, ladders: Sequence[Ladder], start: np.ndarray) -> np.ndarray:
    """The largest common fraction, by bisection over all fractions at which a width changes."""
    fractions = sorted({width / one.widths[-1] for one in ladders for width in one.widths})

    def widths(fraction: float) -> np.ndarray:
        found = [one.at_most(fraction * one.widths[-1]) for one in ladders]
        return np.minimum(np.array(found, dtype=np.int64), start)

    low, high = 0, len(fractions) - 1  # fractions[0] gives the narrowest widths, which fit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(widths(fractions[middle])) <= budget else (low, middle - 1)
    return widths(fractions[low])


def _ranked(
    budget: float, cost: Cost, ladders: Sequence[Ladder], start: np.ndarray, scores: Sequence[np.ndarray]
) -> np.ndarray:
    """Take the steps with the least mean score one after the other until the budget holds."""
    widths = start.copy()
    steps = []
    for index, one in enumerate(ladders):
        reached, width = 0.0, int(start[index])
        while (narrower := one.below(width)) is not None:
            reached = max(reached, _worth(scores[index], width, narrower))
            steps.append((reached, index, narrower))
            width = narrower
    for _, index, width in sorted(steps):
        if cost(widths) <= budget:
            break
        widths[index] = width
    return widths


def _worth(scores: np.ndarray, wider: int, narrower: int) -> float:
    """The mean score of the channels between two widths; the scores are sorted from the least on."""
    gone = len(scores) - wider
    return float(scores[gone : gone + wider - narrower].mean())


def _filled(
    budget: float,
    cost: Cost,
    ladders: Sequence[Ladder],
    start: np.ndarray,
    widths: np.ndarray,
    scores: Sequence[np.ndarray] | None,
) -> np.ndarray:
    """Widen single groups by a step as long as the budget holds: the most worth, or the narrowest, first."""
    widths = widths.copy()
    closed: set[int] = set()
    while len(closed) < len(ladders):
        best: tuple[float, int, int] | None = None
        for index, one in enumerate(ladders):
            wider = one.above(int(widths[index]))
            if index in closed or wider is None or wider > start[index]:
                closed.add(index)
                continue
            if scores is None:
                worth = -widths[index] / one.widths[-1]
            else:
                worth = _worth(scores[index], wider, int(widths[index]))
            if best is None or worth > best[0]:
                best = (worth, index, wider)
        if best is None:
            break
        _, index, wider = best
        trial = widths.copy()
        trial[index] = wider
        if cost(trial) <= budget:
            widths = trial
        else:
            closed.add(index)
    return widths


def comparable(
    scores: Sequence[np.ndarray], graph: Graph, scope: Literal["global", "isomorphic"], absolute: bool
) -> list[np.ndarray]:
    """Scores that may compete between groups, each sorted from the least on.

    ``global`` divides them by their group's mean, unless they are a loss already (``absolute``). ``isomorphic`` replaces them by
    ranks among the groups of the same structure, so that those compete and each kind of structure loses the same share (Fang et
    al. 2024, "Isomorphic Pruning for Vision Models", section 3.3).
    """
    normal = [one if absolute else one / max(float(one.mean()), 1e-30) for one in scores]
    if scope == "isomorphic":
        kinds: dict[tuple[str, ...], list[int]] = {}
        for index, group in enumerate(graph.groups):
            kinds.setdefault(structure(graph, group), []).append(index)
        ranked: list[np.ndarray] = [np.zeros(0)] * len(normal)
        for members in kinds.values():
            joined = np.concatenate([normal[index] for index in members])
            rank = np.empty(len(joined))
            rank[np.argsort(joined, kind="stable")] = (np.arange(len(joined)) + 1) / len(joined)
            ends = np.cumsum([len(normal[index]) for index in members])[:-1]
            for index, part in zip(members, np.split(rank, ends), strict=True):
                ranked[index] = part
        normal = ranked
    return [np.sort(one) for one in normal]


def structure(graph: Graph, group: Group) -> tuple[str, ...]:
    """What a group is made of, without names and widths: kinds and kernels of its producers, readers and followers."""
    atoms = set(group.atoms.tolist())
    found = []
    for layer in graph.layers:
        makes = bool(atoms & set(graph.root[layer.outputs].tolist()))
        reads = bool(atoms & set(graph.root[layer.inputs].tolist()))
        if makes or reads:
            role = "through" if makes and reads else "makes" if makes else "reads"
            found.append(f"{role} {layer.type} {layer.kernel} {layer.groups if not layer.depthwise else 'depthwise'}")
    return tuple(sorted(found))


def chosen(group: Group, scores: np.ndarray, width: int) -> np.ndarray:
    """The atoms that go when the group is narrowed to ``width``: the least, as many from each block."""
    blocks = np.zeros(group.width, dtype=np.int64) if group.blocks is None else group.blocks
    per_block = (group.width - width) // group.block_count
    gone = []
    for block in range(group.block_count):
        members = np.flatnonzero(blocks == block)
        gone.append(members[np.argsort(scores[members], kind="stable")[:per_block]])
    return group.atoms[np.concatenate(gone)]
