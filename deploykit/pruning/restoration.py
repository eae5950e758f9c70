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
from deploykit.stats.paired import mcnemar

MOST = 4096
"""Images that BatchNorm is estimated from, at most."""
STABLE = 0.02
"""Statistics are when twice the images move no layer's by more, in standard deviations (root mean square over channels)."""

NOISE = 0.05
"""Above this p-value a difference of top-1 is chance."""


class ReconstructionFacts(TypedDict):
    """``layers``: that were solved for. ``images``: that they saw. ``kept``: whether the file has their new weights.
    ``top1_select`` (None without labels or classes) and ``nearness_db`` (SNR of the outputs on ``select`` against the whole
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
        right = self._right(module)
        return None if right is None else float(right.mean())

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
        right = (self._right(module), self._right(trial))
        near = (self._nearness_db(module, whole), self._nearness_db(trial, whole))
        kept = self.config.reconstruct == "on" or helps(right, near)
        top1 = [float(one.mean()) for one in right if one is not None]
        self.progress.say(
            f"least squares in {len(wanted)} layers on {count} images: "
            + (f"top-1 on select {percent(top1[0])} → {percent(top1[1])}, " if top1 else "")
            + f"SNR against the whole network's outputs {near[0]:.1f} → {near[1]:.1f} dB; {'kept' if kept else 'not kept'}"
        )
        facts: ReconstructionFacts = {
            "layers": len(wanted),
            "images": count,
            "kept": kept,
            "top1_select": top1 or None,
            "nearness_db": [round(one, 2) for one in near],
        }
        return (trial if kept else module), facts

    def _right(self, module: nn.Module) -> np.ndarray | None:
        if not self.classifies:
            return None
        with placed(module, self.device):
            return self.pictures.right(module, self.preprocessing, self.order)

    def _nearness_db(self, module: nn.Module, whole: nn.Module) -> float:
        with placed(module, self.device), placed(whole, self.device):
            return self.pictures.nearness_db(module, whole, self.preprocessing) or 0.0

    def _images(self) -> Iterator[np.ndarray]:
        return (x for x, _ in self.pictures.batches(self.preprocessing, self.order))


def helps(right: tuple[np.ndarray | None, np.ndarray | None], nearness_db: tuple[float, float]) -> bool:
    """Whether what is second is the better one: by the images it classifies right, else by its outputs.

    Args:
        right: which images each classifies right, bool [N], the same ones; None where nothing is known of that. They decide
            only where McNemar's test tells the two apart at :data:`NOISE`: an image or two of ``select`` are chance.
        nearness_db: SNR of the outputs of each against the whole network's.
    """
    if right[0] is not None and right[1] is not None:
        lost, won = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
        if mcnemar(lost, won) < NOISE:
            return won > lost
    return nearness_db[1] > nearness_db[0]


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
