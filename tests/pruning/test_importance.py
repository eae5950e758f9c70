"""Criteria against their formulas, written out for one layer."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from deploykit.pruning.check_graph import prunable_graph
from deploykit.pruning.importance import Given, channel_scores
from tests.pruning.nets import made


@pytest.fixture(scope="module")
def plain():
    net = made("Plain")
    return net, prunable_graph(net, (8, 8))


def batches(n=6, size=3):
    random = np.random.default_rng(0)
    return [
        (random.standard_normal((size, 3, 8, 8)).astype(np.float32), random.integers(0, 5, size))
        for _ in range(n // size)
    ]


def of(graph, scores, name):
    return next(one for group, one in zip(graph.groups, scores, strict=True) if group.name == name)


def test_magnitudes_are_means_over_all_coupled_slices(plain):
    net, graph = plain
    for name, power in (("l1", 1), ("l2", 2)):
        made_by = net.a.weight.abs().pow(power).sum((1, 2, 3))
        read_by = net.b.weight.abs().pow(power).sum((0, 2, 3))
        scale = net.bn.weight.abs().pow(power)
        expected = ((made_by + read_by + scale) / 3).detach().numpy()
        np.testing.assert_allclose(of(graph, channel_scores(net, graph, name, Given()), "a"), expected, rtol=1e-5)


def test_a_flattened_map_counts_each_pixel(plain):
    net, graph = plain
    made_by = net.b.weight.square().sum((1, 2, 3))
    read_by = net.c.weight.square().sum(0).reshape(24, 4)
    expected = ((made_by + read_by.sum(1)) / 5).detach().numpy()
    np.testing.assert_allclose(of(graph, channel_scores(net, graph, "l2", Given()), "b"), expected, rtol=1e-5)


def test_bn_scale_reads_gamma_and_says_where_there_is_none(plain, listening):
    net, graph = plain
    scores = channel_scores(net, graph, "bn-scale", Given(progress=listening))
    np.testing.assert_allclose(of(graph, scores, "a"), net.bn.weight.abs().detach().numpy(), rtol=1e-6)
    np.testing.assert_allclose(of(graph, scores, "b"), of(graph, channel_scores(net, graph, "l2", Given()), "b"))
    assert listening.said == [
        "b has no BatchNorm: its channels are scored by L2",
        "c has no BatchNorm: its channels are scored by L2",
    ]


def test_fpgm_sums_distances(plain):
    net, graph = plain
    rows = net.a.weight.detach().flatten(1)
    expected = [float((rows - row).norm(dim=1).sum()) for row in rows]
    np.testing.assert_allclose(of(graph, channel_scores(net, graph, "fpgm", Given()), "a"), expected, rtol=1e-4)


def test_lamp_divides_by_what_is_not_smaller(plain):
    net, graph = plain
    squares = of(graph, channel_scores(net, graph, "l2", Given()), "a")
    expected = [one / squares[squares >= one].sum() for one in squares]
    found = of(graph, channel_scores(net, graph, "lamp", Given()), "a")
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.max() == pytest.approx(1.0)  # the strongest channel of every layer


def test_random_is_seeded(plain):
    net, graph = plain
    one, same, other = (channel_scores(net, graph, "random", Given(seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(np.concatenate(one), np.concatenate(same))
    assert not np.array_equal(np.concatenate(one), np.concatenate(other))


def test_taylor_is_the_squared_first_order_change(plain):
    net, graph = plain
    found = channel_scores(net, graph, "taylor", Given(batches()))
    expected = np.zeros(16)
    for x, y in batches():
        net.zero_grad()
        functional.cross_entropy(net(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        gate = net.bn.weight.grad * net.bn.weight + net.bn.bias.grad * net.bn.bias
        expected += gate.detach().numpy() ** 2 / 2
    net.zero_grad()
    np.testing.assert_allclose(of(graph, found, "a"), expected, rtol=1e-4)
    assert (of(graph, found, "c") > 0).any()  # without BatchNorm its own filter and bias


def test_taylor_works_on_frozen_parameters(plain):
    net, graph = plain
    expected = channel_scores(net, graph, "taylor", Given(batches()))
    net.requires_grad_(False)
    try:
        found = channel_scores(net, graph, "taylor", Given(batches()))
        assert not any(p.requires_grad for p in net.parameters())
    finally:
        net.requires_grad_(True)
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(expected))


def test_hessian_uses_single_pictures(plain):
    net, graph = plain
    found = channel_scores(net, graph, "hessian", Given(batches()))
    expected = np.zeros(16)
    for xs, ys in batches():
        for x, y in zip(xs, ys, strict=True):
            net.zero_grad()
            functional.cross_entropy(net(torch.from_numpy(x[None])), torch.tensor([y])).backward()
            expected += (0.5 * (net.a.weight.grad * net.a.weight).square().sum((1, 2, 3))).detach().numpy() / 6
    net.zero_grad()
    np.testing.assert_allclose(of(graph, found, "a"), expected, rtol=1e-4)


def test_activation_is_what_readers_receive(plain):
    net, graph = plain
    found = channel_scores(net, graph, "activation", Given(batches()))
    received = []
    handle = net.b.register_forward_pre_hook(lambda _, given: received.append(given[0].abs().mean((0, 2, 3))))
    with torch.no_grad():
        for x, _ in batches():
            net(torch.from_numpy(x))
    handle.remove()
    np.testing.assert_allclose(of(graph, found, "a"), torch.stack(received).mean(0).numpy(), rtol=1e-5)


@pytest.mark.parametrize("name", ["l1", "l2", "bn-scale", "lamp", "taylor", "hessian", "activation"])
def test_a_dead_channel_goes_first(name):
    net = made("Plain")
    with torch.no_grad():
        for tensor in (net.a.weight, net.a.bias, net.bn.weight, net.bn.bias):
            tensor[5] = 0
        net.bn.running_mean[5] = 0
        net.b.weight[:, 5] = 0
    graph = prunable_graph(net, (8, 8))
    scores = channel_scores(net, graph, name, Given(batches()))
    assert of(graph, scores, "a").argmin() == 5


def test_a_layer_that_runs_twice_is_listened_to_twice():
    net = made("Shared")
    graph = prunable_graph(net, (8, 8))
    assert all((one > 0).all() for one in channel_scores(net, graph, "activation", Given(batches())))
    assert isinstance(net.twice, nn.Conv2d)
