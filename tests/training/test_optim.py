from __future__ import annotations

import pytest
import torch
from torch import nn

from deploykit.base.errors import BadInput
from deploykit.config.train import LoopConfig
from deploykit.training.optim import make_optimizer


def test_decay_spares_norms_and_biases() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    optimizer = make_optimizer(module, LoopConfig(weight_decay=0.01))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: decay[id(p)] for name, p in module.named_parameters()} == {
        "0.weight": 0.01,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
        "3.weight": 0.01,
        "3.bias": 0.0,
    }
    assert optimizer.param_groups[0]["nesterov"]


def test_adamw_and_plain_sgd() -> None:
    module = nn.Linear(2, 2)
    assert isinstance(make_optimizer(module, LoopConfig(optimizer="adamw")), torch.optim.AdamW)
    assert not make_optimizer(module, LoopConfig(momentum=0)).param_groups[0]["nesterov"]


def test_nothing_to_train() -> None:
    with pytest.raises(BadInput, match="every parameter is frozen"):
        make_optimizer(nn.Linear(2, 2).requires_grad_(False), LoopConfig())
