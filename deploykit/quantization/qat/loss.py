"""What one step of training for int8 minimises: the distance from a teacher's logits, and from the labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from deploykit.training.step import Step

Answer = Callable[[Tensor], Tensor]
Distance = Callable[[Tensor, Tensor], Tensor]


class Ordered(nn.Module):
    """A network whose outputs are put in the order of the data's classes.

    ``module``: float [N, 3, H, W] → logits [N, C]. ``order``: int64 [C], the output for each class; None: as they are.
    """

    def __init__(self, module: nn.Module, order: np.ndarray | None) -> None:
        super().__init__()
        self.module = module
        self.order = None if order is None else torch.from_numpy(order)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, C] in that order."""
        logits: Tensor = self.module(x)
        return logits if self.order is None else logits[:, self.order.to(logits.device)]


def step_towards(teacher: Answer | None, distance: Distance, labels: float, order: np.ndarray | None = None) -> Step:
    """``step(module, x, y) -> loss``: ``(1 − labels) · distance + labels · cross-entropy``.

    ``teacher``: the logits to learn, for the network's own input and in its order; None with ``labels`` 1.
    ``distance``: of logits from the teacher's. ``labels``: share of the labels' cross-entropy, 0…1. ``order``: int64
    [C], the network's output for each class of the data; None: as they are. The teacher's is that already.
    """
    columns = None if order is None else torch.from_numpy(order)

    def step(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        logits = module(x)
        if columns is not None:
            logits = logits[:, columns.to(logits.device)]
        loss = logits.new_zeros(())
        if teacher is not None and labels < 1:
            with torch.no_grad():
                wanted = teacher(x)
            loss = loss + (1 - labels) * distance(logits, wanted)
        if labels > 0:
            loss = loss + labels * functional.cross_entropy(logits, y)
        return loss

    return step
