"""What images give back to a pruned network before any training: BatchNorm statistics, and weights by least squares."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import Progress
from deploykit.config.prune import PruneConfig
from deploykit.models.batch_norm import BatchNorm, reestimate_batch_norm
from deploykit.models.device import placed
from deploykit.pruning.channel_graph import Graph
from deploykit.pruning.importance_images import PruningPictures
from deploykit.pruning.reconstruction import feeding_batch_norm, readers, reconstruct
from deploykit.reporting.format import percent

MOST = 4096
"""Images that BatchNorm is estimated from, at most."""
STABLE = 0.02
"""Statistics are when twice the images move no layer's by more, in standard deviations (root mean square over channels)."""


class ReconstructionFacts(TypedDict):
    """``layers``: that were solved for. ``images``: that they saw. ``kept``: whether the file has their new weights.
    ``top1_select`` (None of what is no classifier) and ``nearness_db`` (SNR of the outputs on ``select`` against the whole
    network's): before and after, BatchNorm estimated anew both times.
    """

    layers: int
    images: int
    kept: bool
    top1_select: list[float] | None
    nearness_db: list[float]


@dataclass(frozen=True)
class Restoration:
    """What is given back from the images of one data set.

    ``order``: output of each of its classes. ``classifies``: whether there is an answer to count. ``device``: to run on.
    """

    pictures: PruningPictures
    preprocessing: Preprocessing
    order: np.ndarray | None
    classifies: bool
    config: PruneConfig
    device: str
    progress: Progress

    def top1(self, module: nn.Module) -> float | None:
        """On ``select``, 0…1; None where it is empty, or nothing is classified."""
        if not self.classifies:
            return None
        with placed(module, self.device):
            return self.pictures.top1(module, self.preprocessing, self.order)

    def batch_norm(self, module: nn.Module) -> bool:
        """Estimate BatchNorm anew, on as many images as its statistics need; False where there is none, or it is to stay."""
        layers = [one for one in module.modules() if isinstance(one, BatchNorm) and one.running_mean is not None]
        if not layers or not self.config.recalibrate:
            return False
        most = max(MOST, self.config.images)
        batches = (x for x, _ in self.pictures.batches(self.preprocessing, self.order, most) if len(x) > 1)
        with placed(module, self.device):
            reestimate_batch_norm(module, until_stable(layers, batches))
        return True

    def weights(
        self, whole: nn.Module, module: nn.Module, graph: Graph, removed: np.ndarray
    ) -> tuple[nn.Module, ReconstructionFacts] | None:
        """``module``, or a copy with weights by least squares where that helps on ``select`` or is asked for; None: not tried.

        ``whole``: before pruning. ``module``: without the atoms ``removed`` of ``graph``, BatchNorm estimated anew.
        """
        wanted = readers(whole, graph, removed)
        if self.config.reconstruct == "off" or not wanted:
            return None
        normed = feeding_batch_norm(module, self.preprocessing.shape) if self.config.recalibrate else set()
        trial = copy.deepcopy(module)
        count = len(self.pictures.train.chosen(self.config.images))
        with placed(whole, self.device), placed(trial, self.device):
            reconstruct(whole, trial, wanted, self._images, count, normed)
        self.batch_norm(trial)
        before, after = self._quality(module, whole), self._quality(trial, whole)
        kept = self.config.reconstruct == "on" or after > before
        top1, near = zip(before, after, strict=True)
        self.progress.say(
            f"least squares in {len(wanted)} layers on {count} images: "
            + (f"top-1 on select {percent(top1[0])} → {percent(top1[1])}, " if self.classifies else "")
            + f"outputs {near[0]:.1f} → {near[1]:.1f} dB from the whole network's; {'kept' if kept else 'not kept'}"
        )
        facts: ReconstructionFacts = {
            "layers": len(wanted),
            "images": count,
            "kept": kept,
            "top1_select": list(top1) if self.classifies else None,
            "nearness_db": [round(one, 2) for one in near],
        }
        return (trial if kept else module), facts

    def _quality(self, module: nn.Module, whole: nn.Module) -> tuple[float, float]:
        """Top-1 on ``select`` (0 where there is none), then how near the outputs are to the whole network's, in dB."""
        with placed(module, self.device), placed(whole, self.device):
            near = self.pictures.nearness_db(module, whole, self.preprocessing)
        return self.top1(module) or 0.0, near or 0.0

    def _images(self) -> Iterator[np.ndarray]:
        return (x for x, _ in self.pictures.batches(self.preprocessing, self.order))


def until_stable(layers: list[BatchNorm], batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Give batches, each of which the network sees before the next is asked for, until its statistics are :data:`STABLE`.

    ``layers``: BatchNorms that average over what they have seen.
    """
    before: list[tuple[Tensor, Tensor]] | None = None
    for seen, batch in enumerate(batches, start=1):
        yield batch
        if seen & (seen - 1) == 0:  # 1, 2, 4, 8 …
            now = [
                (torch.as_tensor(one.running_mean).clone(), torch.as_tensor(one.running_var).clone()) for one in layers
            ]
            if before is not None and max(map(_drift, before, now)) < STABLE:
                return
            before = now


def _drift(before: tuple[Tensor, Tensor], now: tuple[Tensor, Tensor]) -> float:
    """How far mean and deviation moved, in standard deviations, root mean square over channels."""
    deviation = (now[1] + 1e-5).sqrt()
    mean = (now[0] - before[0]) / deviation
    spread = (before[1] + 1e-5).sqrt() / deviation - 1
    return float(torch.maximum(mean.square().mean(), spread.square().mean()).sqrt())
