from __future__ import annotations

import torch
from torch import nn

from deploykit.training.modes import freeze_all_but, train_mode


def test_frozen_batchnorm_keeps_its_statistics_and_the_rest_trains() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2))
    assert freeze_all_but(module, "3") == 10
    train_mode(module)
    assert [layer.training for layer in module] == [True, False, True, True]
    module(torch.randn(8, 4))
    assert module[1].num_batches_tracked == 0
    module.requires_grad_(True)
    train_mode(module)
    assert module[1].training
