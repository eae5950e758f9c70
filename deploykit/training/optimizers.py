"""Optimizers, with weight decay where it belongs."""

from __future__ import annotations

import torch
from torch import nn

from deploykit.base.errors import BadInput
from deploykit.config.train import LoopConfig


def make_optimizer(module: nn.Module, config: LoopConfig) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum or AdamW (Loshchilov & Hutter 2019) over the parameters that are to be trained.

    Tensors of one dimension (biases, scales of norms) get no weight decay (He et al. 2019, "Bag of Tricks", section 3.1).

    Raises:
        BadInput: no parameter is left to train.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not trained:
        raise BadInput("nothing is left to train: every parameter is frozen")
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
