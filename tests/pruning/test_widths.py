"""Budgets: at most what was asked, and no group could be one step wider."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploykit.base.errors import BadInput
from deploykit.pruning.check_graph import prunable_graph
from deploykit.pruning.importance import Given, channel_scores
from deploykit.pruning.prune_channels import check_floor, plan, removal, step_budgets, widths_for
from deploykit.pruning.surgery import remove
from deploykit.pruning.widths import Ladder, TooSmall, channels_for, chosen, comparable, ladder, structure
from tests.pruning.nets import check_used, made


@settings(max_examples=60)
@given(
    fraction=st.floats(0.08, 0.99),
    round_to=st.sampled_from(["auto", 1, 4, 8, 16]),
    scope=st.sampled_from(["local", "global", "isomorphic"]),
    unit=st.sampled_from(["macs", "params"]),
)
def test_the_budget_holds_and_is_used(resnet, fraction, round_to, scope, unit):
    net, graph, costs = resnet
    how = plan(graph, scope, round_to, {}, "l2")
    scores = channel_scores(net, graph, "l2", Given())
    cost = getattr(costs, unit)
    total = cost(costs.widths)
    floor = cost(np.array([one.widths[0] for one in how.ladders]))
    if floor > fraction * total:
        with pytest.raises(TooSmall, match="below what protected layers"):
            widths_for(fraction * total, cost, graph, how, scores)
        return
    widths = widths_for(fraction * total, cost, graph, how, scores)
    check_used(widths, how, cost, fraction * total)


def test_rounding():
    graph = prunable_graph(made("Depthwise"), (8, 8))
    groups = {group.name: group for group in graph.groups}
    assert ladder(groups["a"], "auto").widths == (8, 16)
    assert ladder(groups["b"], "auto").widths == (8, 16, 24, 32)
    assert ladder(groups["grouped"], 3).widths == (12, 16)  # 3 and 4 groups: multiples of 12
    assert ladder(groups["a"], 1, least=0.5).widths == (8, 9, 10, 11, 12, 13, 14, 15, 16)
    assert ladder(groups["a"], 64).widths == (16,)  # nothing to round to: it stays
    assert ladder(groups["b"], "auto", wide=32).widths == (16, 32)  # for 2:4
    wide = ladder(groups["b"].__class__(np.arange(1, 101), ("x",)), "auto")
    assert wide.widths == (16, 32, 48, 64, 80, 96, 100)
    assert (wide.at_most(50), wide.below(48), wide.above(96)) == (48, 32, 100)


def test_uniform_widths_keep_the_same_fraction(resnet):
    _, graph, costs = resnet
    how = plan(graph, "local", 8, {}, "l2")
    widths = channels_for(0.25 * costs.macs(costs.widths), costs.macs, how.ladders, costs.widths)
    fractions = widths / costs.widths
    assert fractions.max() - fractions.min() <= 0.25


def test_global_takes_the_least_first():
    scores = [np.array([0.1, 0.2, 5.0, 6.0]), np.array([1.0, 2.0, 3.0, 4.0])]
    ladders = [Ladder((1, 2, 3, 4)), Ladder((1, 2, 3, 4))]
    widths = channels_for(6, lambda w: float(w.sum()), ladders, np.array([4, 4]), scores)
    assert widths.tolist() == [2, 4]


def test_isomorphic_ranks_like_structures_together(resnet):
    net, graph, _ = resnet
    scores = channel_scores(net, graph, "l1", Given())
    ranked = comparable(scores, graph, "isomorphic", absolute=False)
    assert all((np.diff(one) >= 0).all() for one in ranked)
    kinds = {}
    for group, one in zip(graph.groups, ranked, strict=True):
        kinds.setdefault(structure(graph, group), []).append(one)
    assert max(len(members) for members in kinds.values()) > 1  # the inner layers of the blocks
    for members in kinds.values():
        joined = np.sort(np.concatenate(members))
        np.testing.assert_allclose(joined, (np.arange(len(joined)) + 1) / len(joined))


def test_the_least_channels_of_each_block_go():
    graph = prunable_graph(made("Depthwise"), (8, 8))
    group = next(one for one in graph.groups if one.name == "b")
    scores = np.arange(32.0)[::-1].copy()
    gone = chosen(group, scores, 24)
    index = [group.atoms.tolist().index(atom) for atom in gone]
    assert sorted(index) == [6, 7, 14, 15, 22, 23, 30, 31]


def test_floor_and_schedule(resnet):
    _, graph, costs = resnet
    how = plan(graph, "local", "auto", {}, "l2")
    with pytest.raises(
        BadInput, match=r"--macs 0.001 is below what protected layers .* cost; expected at least 0\.0\d"
    ):
        check_floor(0.001, "macs", costs.macs(costs.widths), costs.macs, how)
    assert step_budgets(100.0, 0.4, 3) == pytest.approx([80.0, 60.0, 40.0])


def test_ratios_size_their_layers_alone(resnet):
    net, graph, costs = resnet
    index = next(i for i, group in enumerate(graph.groups) if group.name == "layer3.0.conv1")
    how = plan(graph, "local", "auto", {index: 0.25}, "l2")
    widths = widths_for(float("inf"), costs.macs, graph, how, channel_scores(net, graph, "l2", Given()))
    assert widths[index] == 32
    assert [w for i, w in enumerate(widths) if i != index] == [w for i, w in enumerate(costs.widths) if i != index]
    import copy

    pruned = copy.deepcopy(net)
    remove(pruned, graph, removal(graph, channel_scores(net, graph, "l2", Given()), widths))
    assert pruned.layer3[0].conv1.out_channels == 32
