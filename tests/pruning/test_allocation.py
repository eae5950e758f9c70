"""The greedy knapsack keeps its budget, and loses hardly more than the best choice there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from deploykit.pruning.allocation import Choices, allocate


@dataclass(frozen=True)
class Chain:
    """Layer i costs weight × width before × width after, as in a chain of convolutions."""

    weights: tuple[float, ...]
    stairs: int = 1

    def total(self, widths: Sequence[int]) -> float:
        return sum(self.layer(i, widths) for i in range(len(self.weights)))

    def around(self, group: int, widths: Sequence[int]) -> float:
        return self.layer(group, widths) + (self.layer(group + 1, widths) if group + 1 < len(self.weights) else 0)

    def layer(self, i: int, widths: Sequence[int]) -> float:
        before = 3 if i == 0 else widths[i - 1]
        after = -(-widths[i] // self.stairs) * self.stairs if i < len(widths) else 10
        return self.weights[i] * before * after


@st.composite
def networks(draw: st.DrawFn) -> tuple[list[Choices], Chain]:
    count = draw(st.integers(1, 4))
    groups = []
    for i in range(count):
        steps = sorted(draw(st.lists(st.floats(0.01, 5), min_size=3, max_size=3)))  # convex: each step loses more
        losses = (0.0, steps[0], steps[0] + steps[1], sum(steps))
        groups.append(Choices(f"g{i}", (64, 48, 32, 16), losses))
    weights = tuple(draw(st.lists(st.floats(0.1, 3), min_size=count + 1, max_size=count + 1)))
    return groups, Chain(weights, draw(st.sampled_from([1, 32])))


@settings(max_examples=80)
@given(networks(), st.floats(0.2, 1))
def test_the_budget_holds_where_it_can_and_no_step_is_wasted(network: tuple[list[Choices], Chain], part: float) -> None:
    groups, cost = network
    budget = part * cost.total([64] * len(groups))
    found = allocate(groups, cost, budget)
    lowest = cost.total([16] * len(groups))
    assert found.fits == (found.cost <= budget)
    assert found.fits or lowest > budget
    assert found.cost == cost.total(found.widths)
    if found.fits:
        for i, (group, width) in enumerate(zip(groups, found.widths, strict=True)):
            level = group.widths.index(width)
            if level > 0:
                wider = [*found.widths[:i], group.widths[level - 1], *found.widths[i + 1 :]]
                assert cost.total(wider) > budget


@settings(max_examples=60)
@given(networks(), st.floats(0.3, 0.9))
def test_the_loss_is_near_the_best_there_is(network: tuple[list[Choices], Chain], part: float) -> None:
    groups, cost = network
    budget = part * cost.total([64] * len(groups))
    found = allocate(groups, cost, budget)
    levels = [range(4)] * len(groups)
    losses = [
        sum(group.losses[level] for group, level in zip(groups, chosen, strict=True))
        for chosen in product(*levels)
        if cost.total([group.widths[level] for group, level in zip(groups, chosen, strict=True)]) <= budget
    ]
    if losses:  # greedy may overshoot by about its last step
        largest = max(b - a for group in groups for a, b in zip(group.losses, group.losses[1:], strict=False))
        assert found.loss <= 2 * min(losses) + 2 * largest


def test_what_costs_nothing_to_lose_goes_first() -> None:
    groups = [Choices("dead", (64, 32), (0.0, 0.0)), Choices("alive", (64, 32), (0.0, 5.0))]
    cost = Chain((1.0, 1.0, 1.0))
    assert allocate(groups, cost, 0.8 * cost.total([64, 64])).widths == (32, 64)
