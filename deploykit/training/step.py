"""The training step of a classifier, from a batch to its loss, and top-1 on ``select``, by which training makes its choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from deploykit.base.preprocessing import Preprocessing
from deploykit.data import Split, prepare
from deploykit.training.distributed import summed

Step = Callable[[nn.Module, Tensor, Tensor], Tensor]
AUXILIARY_WEIGHT = 0.3


def cross_entropy_step(label_smoothing: float = 0.0) -> Step:
    """``step(module, x, y) -> loss``: :func:`cross_entropy` of what the network gives.

    ``x`` is float [N, 3, H, W]; ``y`` is int64 [N], or float [N, C] after mixup.
    """

    def step(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        logits, auxiliary = outputs_of(module(x))
        return cross_entropy(logits, auxiliary, y, label_smoothing)

    return step


def penalised_step(step: Step, penalty: Callable[[nn.Module], Tensor], strength: float) -> Step:
    """``step`` with ``strength`` times a penalty on the network added to its loss."""

    def penalised(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return step(module, x, y) + strength * penalty(module)

    return penalised


def cross_entropy(logits: Tensor, auxiliary: Sequence[Tensor], y: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy with label smoothing (Szegedy et al. 2016, section 7).

    Auxiliary heads that a network returns besides its logits while training (GoogLeNet, Inception) count 0.3 each
    (Szegedy et al. 2015, section 5).

    ``logits``: [N, C]. ``auxiliary``: [N, C] each. ``y``: int64 [N], or float [N, C]. ``label_smoothing``: 0…1.
    """
    loss = functional.cross_entropy(logits.float(), y, label_smoothing=label_smoothing)
    for extra in auxiliary:
        loss = loss + AUXILIARY_WEIGHT * functional.cross_entropy(extra.float(), y, label_smoothing=label_smoothing)
    return loss


def outputs_of(given: Any) -> tuple[Tensor, list[Tensor]]:
    """The logits, and those of auxiliary heads, of what a network returned in training."""
    if isinstance(given, torch.Tensor):
        return given, []
    logits, *rest = given
    return logits, [extra for extra in rest if extra is not None]


Validate = Callable[[nn.Module], float | None]


def top1_on(split: Split, preprocessing: Preprocessing, batch: int, fabric: Fabric) -> Validate:
    """A function from a network to its top-1 (0…1) on ``split``, or to None where the split is empty.

    Each process judges every ``world``-th picture and the counts are added up, so the answer is exact.
    """
    mine = np.arange(fabric.global_rank, len(split), fabric.world_size)
    share = max(1, batch // fabric.world_size)

    @torch.inference_mode()
    def validate(module: nn.Module) -> float | None:
        if len(split) == 0:
            return None
        module.eval()
        correct = torch.zeros((), dtype=torch.float64, device=fabric.device)
        for start in range(0, len(mine), share):
            indices = mine[start : start + share]
            x = torch.from_numpy(prepare([split.image(int(i)) for i in indices], preprocessing)).to(fabric.device)
            found = module(x).argmax(1).cpu().numpy()
            correct += int((found == split.labels[indices]).sum())
        return float(summed(correct, fabric)) / len(split)

    return validate
