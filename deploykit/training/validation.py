"""Top-1 on ``select``, the split by which training makes its choices."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from deploykit.training.distributed import summed

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from deploykit.base.preprocessing import Preprocessing
    from deploykit.data import Split

Validate = Callable[[nn.Module], float | None]


def top1_on(split: Split, preprocessing: Preprocessing, batch: int, fabric: Fabric) -> Validate:
    """A function from a network to its top-1 (0…1) on ``split``, or to None where the split is empty.

    Each process judges every ``world``-th picture and the counts are added up, so the answer is exact.
    """
    from deploykit.data import prepare

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
