"""The exponential moving average of the weights (Polyak averaging, as in Tarvainen & Valpola 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
