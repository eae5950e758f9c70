"""A pruned network computes what the whole one does when nobody reads the removed channels any more."""

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploykit.models import count, reshape, shape_changes
from deploykit.pruning.check_graph import prunable_graph, some_atoms
from deploykit.pruning.group_cost import Costs
from deploykit.pruning.surgery import mask, no_atoms, remove
from tests.pruning.nets import NETS, made

SIZE = (8, 8)


@pytest.fixture(scope="module")
def graphs():
    return {name: (net := made(name), prunable_graph(net, SIZE)) for name in NETS}


def picture():
    return torch.randn(3, 3, *SIZE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NETS)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_removing_is_not_reading(name, graphs, data):
    net, graph = graphs[name]
    removed = no_atoms(graph)
    for group in graph.groups:
        blocks = [0] * group.width if group.blocks is None else group.blocks.tolist()
        members = [
            [atom for atom, at in zip(group.atoms.tolist(), blocks, strict=True) if at == b] for b in set(blocks)
        ]
        gone = data.draw(st.integers(0, len(members[0]) - 1))
        for block in members:
            removed[data.draw(st.permutations(block))[:gone]] = True
    zeroed, pruned = copy.deepcopy(net), copy.deepcopy(net)
    mask(zeroed, graph, removed)
    remove(pruned, graph, removed)
    with torch.no_grad():
        expected, got = zeroed(picture()), pruned(picture())
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    if removed.any():
        assert sum(p.numel() for p in pruned.parameters()) < sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("name", NETS)
def test_costs_are_those_of_the_pruned_network(name, graphs):
    net, graph = graphs[name]
    whole = count(net, SIZE)
    costs = Costs(graph, whole.macs, {key: tuple(value.shape) for key, value in net.named_parameters()})
    removed = some_atoms(graph, graph.groups, seed=3)
    pruned = copy.deepcopy(net)
    remove(pruned, graph, removed)
    left = graph.after(removed)
    widths = [group.width for group in left.groups]
    found = count(pruned, SIZE)
    assert costs.macs(costs.widths) == whole.macs
    assert costs.params(costs.widths) == whole.params
    import numpy as np

    assert costs.macs(np.array(widths)) == pytest.approx(found.macs)
    assert costs.params(np.array(widths)) == pytest.approx(found.params)


@pytest.mark.parametrize("name", NETS)
def test_it_loads_into_the_stock_network(name, graphs):
    net, graph = graphs[name]
    pruned = copy.deepcopy(net)
    remove(pruned, graph, some_atoms(graph, graph.groups, seed=4))
    stock = NETS[name]().eval()
    reshape(stock, shape_changes(pruned, stock))
    stock.load_state_dict(pruned.state_dict(), strict=True)
    with torch.no_grad():
        torch.testing.assert_close(stock(picture()), pruned(picture()), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["Plain", "Residual", "Depthwise", "Shared", "Shuffled"])
def test_a_pruned_network_is_pruned_again(name, graphs):
    net, graph = graphs[name]
    once = copy.deepcopy(net)
    removed = some_atoms(graph, graph.groups, seed=5)
    remove(once, graph, removed)
    fresh = prunable_graph(once, SIZE)
    known = graph.after(removed)
    assert [group.width for group in fresh.groups] == [group.width for group in known.groups]
    assert [group.producers for group in fresh.groups] == [group.producers for group in known.groups]
    again, zeroed = copy.deepcopy(once), copy.deepcopy(once)
    second = some_atoms(known, known.groups, seed=6)
    remove(again, known, second)
    mask(zeroed, known, second)
    with torch.no_grad():
        torch.testing.assert_close(again(picture()), zeroed(picture()), rtol=1e-4, atol=1e-5)


def test_a_shared_parameter_stays_shared_and_frozen_ones_stay_frozen(graphs):
    net, graph = graphs["Shared"]
    pruned = copy.deepcopy(net)
    pruned.left.weight.requires_grad_(False)
    remove(pruned, graph, some_atoms(graph, graph.groups, seed=0))
    assert pruned.left.weight is pruned.right.weight
    assert pruned.left.weight.shape[0] == 4
    assert not pruned.left.weight.requires_grad
    assert pruned.a.weight.requires_grad
