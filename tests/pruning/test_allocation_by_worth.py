"""Allocated widths: the budget holds and is used, and channels that are worth little for what they cost go first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploykit.pruning.allocation import _Parts, allocated_widths, choices
from deploykit.pruning.importance import Given, channel_scores
from deploykit.pruning.prune_channels import plan
from deploykit.pruning.widths import TooSmall
from tests.pruning.nets import check_used


@settings(max_examples=40)
@given(
    fraction=st.floats(0.02, 0.99),
    round_to=st.sampled_from(["auto", 1, 4, 8, 16]),
    unit=st.sampled_from(["macs", "params"]),
)
def test_the_budget_holds_and_is_used(resnet, fraction, round_to, unit):
    net, graph, costs = resnet
    how = plan(graph, "allocated", round_to, {}, "l2")
    scores = channel_scores(net, graph, "l2", Given())
    cost = getattr(costs, unit)
    total = cost(costs.widths)
    if cost(np.array([one.widths[0] for one in how.ladders])) > fraction * total:
        with pytest.raises(TooSmall):
            allocated_widths(fraction * total, unit, costs, graph, how, scores)
        return
    widths = allocated_widths(fraction * total, unit, costs, graph, how, scores)
    check_used(widths, how, cost, fraction * total)


@settings(max_examples=40)
@given(data=st.data(), unit=st.sampled_from(["macs", "params"]))
def test_the_parts_around_a_group_change_as_the_whole_does(resnet, data, unit):
    _, graph, costs = resnet
    parts = _Parts(costs, unit)
    widths = [data.draw(st.integers(1, group.width)) for group in graph.groups]
    group = data.draw(st.integers(0, len(widths) - 1))
    other = [*widths]
    other[group] = data.draw(st.integers(1, graph.groups[group].width))
    whole = parts.total(other) - parts.total(widths)
    assert parts.around(group, other) - parts.around(group, widths) == pytest.approx(whole, rel=1e-9, abs=1e-6)


def test_a_layer_with_channels_that_do_nothing_is_narrowed_first(resnet):
    _, graph, costs = resnet
    how = plan(graph, "allocated", 8, {}, "l2")
    scores = [np.ones(group.width) for group in graph.groups]
    index = next(i for i, group in enumerate(graph.groups) if len(group.producers) == 1 and group.width == 64)
    scores[index] = np.concatenate([np.full(48, 1e-6), np.ones(16)])
    widths = allocated_widths(0.97 * costs.macs(costs.widths), "macs", costs, graph, how, scores)
    assert widths[index] < graph.groups[index].width
    assert all(
        width == group.width for i, (width, group) in enumerate(zip(widths, graph.groups, strict=True)) if i != index
    )
    assert choices(graph, how, scores)[index].losses[0] == 0
