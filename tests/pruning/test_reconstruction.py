"""Weights by least squares: rows are the patches that a layer sees, the solution is numpy's, and it helps."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from deploykit.models.batch_norm import BatchNorm
from deploykit.pruning.check_graph import prunable_graph, some_atoms
from deploykit.pruning.reconstruction import RIDGE, Moments, _rows, feeding_batch_norm, readers, reconstruct
from deploykit.pruning.restoration import helps, until_stable
from deploykit.pruning.surgery import remove
from tests.pruning.nets import made

SIZE = (8, 8)


def images(count=64):
    x = np.random.default_rng(0).standard_normal((count, 3, *SIZE)).astype(np.float32)
    return lambda: iter([x[: count // 2], x[count // 2 :]])


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(5, 7, 3, stride=2, padding=1),
        nn.Conv2d(5, 7, (1, 3), dilation=2, padding="same"),
        nn.Conv2d(5, 7, 3, padding=2, padding_mode="circular"),
        nn.Conv2d(5, 7, 1, bias=False),
    ],
)
def test_rows_times_weights_are_the_outputs(layer):
    from deploykit.pruning.reconstruction import Reader

    x = torch.randn(3, 5, 9, 9)
    y = layer(x)
    reader = Reader("layer", torch.arange(5), torch.tensor([0, 3, 6]), layer.weight[0, 0].numel())
    rows, outputs = _rows(layer, x, y, reader, torch.Generator().manual_seed(0), 12)
    assert rows.shape == (36, 5 * reader.kernel)
    bias = 0 if layer.bias is None else layer.bias[[0, 3, 6]]
    torch.testing.assert_close(rows @ layer.weight[[0, 3, 6]].flatten(1).T + bias, outputs)


def test_rows_of_a_linear_layer_are_its_tokens():
    from deploykit.pruning.reconstruction import Reader

    layer, x = nn.Linear(6, 4), torch.randn(2, 10, 6)
    reader = Reader("layer", torch.tensor([1, 4]), torch.arange(4), 1)
    rows, outputs = _rows(layer, x, layer(x), reader, torch.Generator().manual_seed(0), 99)
    assert rows.shape == (20, 2)
    assert outputs.shape == (20, 4)


@pytest.mark.parametrize("centred", [True, False])
def test_the_solution_is_that_of_numpy(centred):
    draw = np.random.default_rng(1)
    x, y, start = draw.standard_normal((50, 4)) + 1, draw.standard_normal((50, 3)) - 2, draw.standard_normal((3, 4))
    moments = Moments()
    for part in (slice(0, 20), slice(20, 50)):
        moments.add(torch.from_numpy(x[part]), torch.from_numpy(y[part]))
    weight, bias = moments.solve(torch.from_numpy(start), centred=centred)
    if centred:
        x, y, mean = x - x.mean(0), y - y.mean(0), (x.mean(0), y.mean(0))
        np.testing.assert_allclose(bias.numpy(), mean[1] - weight.numpy() @ mean[0])
    ridge = np.sqrt(RIDGE * (x**2).sum() / 4)
    expected, *_ = np.linalg.lstsq(
        np.vstack([x, ridge * np.eye(4)]), np.vstack([y, ridge * start.T]), rcond=None
    )  # rows that pull towards the start
    np.testing.assert_allclose(weight.numpy(), expected.T)


@pytest.mark.parametrize("name", ["Plain", "Residual", "Scaled", "Shared", "Transposed"])
def test_outputs_come_nearer_to_the_whole_networks(name):
    net = made(name)
    graph = prunable_graph(net, SIZE)
    removed = some_atoms(graph, graph.groups, seed=1)
    pruned = copy.deepcopy(net)
    remove(pruned, graph, removed)
    solved = copy.deepcopy(pruned)
    wanted = readers(net, graph, removed)
    assert wanted
    reconstruct(net, solved, wanted, images(), 64, set())
    x = torch.randn(16, 3, *SIZE, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        before, after = ((one(x) - net(x)).square().sum() for one in (pruned, solved))
    assert after < 0.7 * before
    again = copy.deepcopy(pruned)
    reconstruct(net, again, wanted, images(), 64, set())
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), solved.parameters(), strict=True))


def test_what_cannot_be_solved_for_stays():
    net = made("Depthwise")
    graph = prunable_graph(net, SIZE)
    names = [one.name for one in readers(net, graph, some_atoms(graph, graph.groups, seed=1))]
    assert names == ["b", "fc"]  # depthwise and grouped convolutions are left
    net = made("Shared")
    graph = prunable_graph(net, SIZE)
    assert [one.name for one in readers(net, graph, some_atoms(graph, graph.groups, seed=1))] == ["twice", "fc"]


def test_who_feeds_a_batch_norm():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(3, 3, 1) for _ in range(3))
            self.bn, self.other = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, x):
            x = self.bn(self.a(x))
            return self.other(self.c(functional.relu(self.b(x))).relu_())

    assert feeding_batch_norm(Net().eval(), (3, *SIZE)) == {"a"}


@pytest.mark.parametrize(("moves", "seen"), [(0.0, 2), (0.05, 4), (1.0, 12)])
def test_images_are_seen_until_statistics_are_stable(moves, seen):
    """They move by ``moves`` of a deviation at first, and half as much with each doubling."""
    layer = nn.BatchNorm2d(4)
    given = 0
    for given, _ in enumerate(until_stable([layer], [np.zeros(0)] * 12), start=1):
        assert isinstance(layer, BatchNorm)
        layer.running_mean.fill_(moves / given)
    assert given == seen


@pytest.mark.parametrize(
    ("lost", "won", "nearness", "kept"),
    [
        (1, 0, (8.9, 38.1), True),  # an image of 60 is chance
        (4, 0, (8.9, 38.1), True),
        (0, 4, (38.1, 8.9), False),
        (6, 0, (8.9, 38.1), False),  # six of six are not
        (12, 4, (8.9, 38.1), False),
        (4, 12, (38.1, 8.9), True),
        (0, 0, (10.0, 10.0), False),
    ],
)
def test_outputs_decide_where_top1_is_within_noise(lost, won, nearness, kept):
    before, after = np.zeros(60, dtype=bool), np.zeros(60, dtype=bool)
    before[:lost], after[lost : lost + won] = True, True
    before[40:], after[40:] = True, True
    assert helps((before, after), nearness) is kept


def test_outputs_decide_without_labels():
    assert helps((None, None), (8.9, 38.1))
    assert not helps((None, None), (38.1, 8.9))
