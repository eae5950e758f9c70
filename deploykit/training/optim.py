"""The optimizers, the learning rate and the exponential moving average of the weights.

The rate is a pure function of the step, so that a resumed run needs no scheduler state. The average is Polyak's, as in
Tarvainen & Valpola 2017.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from deploykit.base.errors import BadInput
from deploykit.config.train import LoopConfig

ONE_CYCLE_RISE = 0.3
ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = ONE_CYCLE_START / 1e4


def share_of_rate(config: LoopConfig, step: int, steps_per_epoch: int) -> float:
    """The rate of one optimizer step as a share of the peak, 0…1.

    A linear warm-up comes first; the schedule runs over the steps that remain. ``cosine`` is that of Loshchilov &
    Hutter 2017 (SGDR, without restarts), ``onecycle`` that of Smith & Topin 2018 with PyTorch's constants
    (its rise replaces the warm-up: over ``warmup_epochs`` where set, else over 30 % of the steps).

    ``step``: 0 … epochs × steps_per_epoch − 1. ``steps_per_epoch``: of the global batch.
    """
    total = config.epochs * steps_per_epoch
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if config.schedule == "onecycle":
        rise = warmup or max(1, round(ONE_CYCLE_RISE * total) - 1)
        if step < rise:
            return _cosine(ONE_CYCLE_START, 1.0, step / rise)
        return _cosine(1.0, ONE_CYCLE_END, (step - rise) / max(1, total - 1 - rise))
    if step < warmup:
        return (step + 1) / warmup
    if config.schedule == "cosine":
        return _cosine(1.0, 0.0, (step - warmup) / (total - warmup))
    if config.schedule == "step":
        return config.step_gamma ** (step // steps_per_epoch // config.step_epochs)
    return 1.0


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


class MovingAverage:
    """Averages the whole state dict: floating-point tensors, running statistics included; others are copied.

    The decay rises as (1 + t) / (10 + t) up to its final value, so that the random start is forgotten early.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.tensors = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the weights after one optimizer step."""
        self.updates += 1
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                self.tensors[name].lerp_(tensor.detach(), weight)
            else:
                self.tensors[name].copy_(tensor)

    def state(self) -> dict[str, object]:
        """What :meth:`restore` takes back."""
        return {"updates": self.updates, "tensors": self.tensors}

    def restore(self, updates: int, tensors: dict[str, Tensor]) -> None:
        """Go on from a stored state."""
        self.updates = updates
        for name, tensor in tensors.items():
            self.tensors[name].copy_(tensor)


def make_optimizer(module: nn.Module, config: LoopConfig) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum or AdamW (Loshchilov & Hutter 2019) over the parameters that are to be trained.

    Tensors of one dimension (biases, scales of norms) get no weight decay (He et al. 2019, "Bag of Tricks", section 3.1).

    The loop sets the rate before each step.

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
        return torch.optim.AdamW(groups)
    return torch.optim.SGD(groups, lr=1.0, momentum=config.momentum, nesterov=config.momentum > 0)
