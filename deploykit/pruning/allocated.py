"""Widths for a budget of MACs or parameters, allocated: each layer as wide as its channels are worth what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from deploykit.pruning.allocation import Choices, allocate
from deploykit.pruning.graph import Graph
from deploykit.pruning.importance import Scores
from deploykit.pruning.latency.cost import losses_of
from deploykit.pruning.macs import Costs
from deploykit.pruning.plan import Plan, ranked
from deploykit.pruning.widths import TooSmall


def allocated_widths(
    budget: float, name: Literal["macs", "params"], costs: Costs, graph: Graph, how: Plan, scores: Scores
) -> np.ndarray:
    """The widths, int [groups], that lose least importance of those that cost at most ``budget``.

    Args:
        budget: in MACs of one picture, or parameters.
        name: which.
        costs: of the network.
        graph: of its channels.
        how: ladders of the groups, and what their scores mean.
        scores: of each group's channels.

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
