from __future__ import annotations

import torch
from torch import nn

from deploykit.training.optim import MovingAverage


def test_it_is_the_moving_average_and_goes_on_from_its_state() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = MovingAverage(module, 0.9)
    expected = module[0].weight.detach().clone()
    for t in range(1, 4):
        with torch.no_grad():
            module[0].weight.add_(1.0)
        module[1](torch.randn(4, 2))
        average.update(module)
        expected = torch.lerp(expected, module[0].weight.detach(), 1 - (1 + t) / (10 + t))
    assert torch.allclose(average.tensors["0.weight"], expected)
    assert average.tensors["1.num_batches_tracked"] == 3
    other = MovingAverage(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), 0.9)
    other.restore(**average.state())
    for one in (average, other):
        one.update(module)
    assert all(torch.equal(average.tensors[name], other.tensors[name]) for name in average.tensors)
