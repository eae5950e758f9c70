"""The training step of a classifier: from a batch to its loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Step = Callable[[nn.Module, Tensor, Tensor], Tensor]
AUXILIARY_WEIGHT = 0.3


def cross_entropy_step(label_smoothing: float = 0.0) -> Step:
    """``step(module, x, y) -> loss``: mean cross-entropy with label smoothing (Szegedy et al. 2016, section 7).

    ``x`` is float [N, 3, H, W]; ``y`` is int64 [N], or float [N, C] after mixup. Auxiliary heads that a network
    returns besides its logits while training (GoogLeNet, Inception) count 0.3 each (Szegedy et al. 2015, section 5).
    """

    def step(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        logits, auxiliary = _outputs(module(x))
        loss = functional.cross_entropy(logits.float(), y, label_smoothing=label_smoothing)
        for extra in auxiliary:
            loss = loss + AUXILIARY_WEIGHT * functional.cross_entropy(extra.float(), y, label_smoothing=label_smoothing)
        return loss

    return step


def _outputs(given: Any) -> tuple[Tensor, list[Tensor]]:
    if isinstance(given, torch.Tensor):
        return given, []
    logits, *rest = given
    return logits, [extra for extra in rest if extra is not None]
