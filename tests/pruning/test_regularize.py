"""Penalties before pruning: their values, their gradients, and what training with them does."""

import copy

import pytest
import torch
from torch import nn

from deploykit.base.errors import BadInput
from deploykit.pruning.check_graph import prunable_graph
from deploykit.pruning.regularize import penalty_for
from tests.pruning.nets import made


def test_bn_scale_is_the_sum_of_gammas():
    net = made("Plain")
    penalty = penalty_for("bn-scale", net, (8, 8))
    assert float(penalty(net)) == pytest.approx(float(net.bn.weight.abs().sum()))
    with pytest.raises(BadInput, match="bn-scale needs BatchNorm layers"):
        penalty_for("bn-scale", made("Residual"), (8, 8))


def test_group_norm_is_the_sum_of_norms_over_coupled_weights():
    net = made("Plain")
    a = net.a.weight.square().sum((1, 2, 3)) + net.b.weight.square().sum((0, 2, 3)) + net.bn.weight.square()
    b = net.b.weight.square().sum((1, 2, 3)) + net.c.weight.square().sum(0).reshape(24, 4).sum(1)
    c = net.c.weight.square().sum(1) + net.fc.weight.square().sum(0)
    expected = a.sqrt().sum() + b.sqrt().sum() + c.sqrt().sum()
    assert float(penalty_for("group-norm", net, (8, 8))(net)) == pytest.approx(float(expected), rel=1e-5)


def test_it_follows_a_copy_and_a_wrapped_network():
    net = made("Plain")
    penalty = penalty_for("bn-scale", net, (8, 8))
    other = copy.deepcopy(net)
    nn.init.constant_(other.bn.weight, 2.0)
    assert float(penalty(other)) == 32.0
    wrapper = nn.Module()
    wrapper.module = other
    assert float(penalty(wrapper)) == 32.0


@pytest.mark.parametrize("kind", ["bn-scale", "group-norm"])
def test_it_makes_channels_weak(kind):
    net = made("Plain")
    penalty = penalty_for(kind, net, (8, 8))
    before = float(penalty(net))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        penalty(net).backward()
        optimizer.step()
    assert float(penalty(net)) < 0.8 * before
    assert prunable_graph(net, (8, 8)).groups
