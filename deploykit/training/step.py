"""The training step of a classifier, from a batch to its loss, and its score on ``select``, by which training makes its choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from deploykit.base.preprocessing import Preprocessing
from deploykit.config.train import LoopConfig
from deploykit.data import Split, prepare
from deploykit.training.distributed import local_world, summed
from deploykit.training.threads import on_threads, threads_of

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


@dataclass(frozen=True)
class Score:
    """How a network answers images of a split.

    ``right``: bool [N]. ``losses``: cross-entropy of each in nats, float64 [N].
    """

    right: np.ndarray
    losses: np.ndarray

    @property
    def top1(self) -> float:
        """0…1."""
        return float(self.right.mean())

    @property
    def loss(self) -> float:
        """Mean cross-entropy; NaN or infinite where one is."""
        return float(self.losses.mean())

    def slice(self, most: int) -> Score:
        """That of at most ``most`` of the images, spread evenly."""
        rows = _spread(len(self.right), most)
        return Score(self.right[rows], self.losses[rows])


class Judge(Protocol):
    """How a network answers a split, all of it or at most ``most`` images; None where the split is empty."""

    def __call__(self, module: nn.Module, most: int | None = None) -> Score | None:
        """``module``: float [N, 3, H, W] → logits [N, C]; it is left in eval mode."""


def judge_on(split: Split, preprocessing: Preprocessing, batch: int, fabric: Fabric) -> Judge:
    """A judge by ``split``; each process answers every ``world``-th image, and all get the same score."""
    share = max(1, batch // fabric.world_size)

    @torch.inference_mode()
    def judge(module: nn.Module, most: int | None = None) -> Score | None:
        if len(split) == 0:
            return None
        module.eval()
        rows = _spread(len(split), most or len(split))
        found = torch.zeros(2, len(rows), dtype=torch.float64, device=fabric.device)
        mine = np.arange(fabric.global_rank, len(rows), fabric.world_size)
        for start in range(0, len(mine), share):
            places = mine[start : start + share]
            x = torch.from_numpy(prepare([split.image(int(i)) for i in rows[places]], preprocessing)).to(fabric.device)
            y = torch.from_numpy(split.labels[rows[places]]).to(fabric.device)
            logits = module(x).float()
            found[0, places] = (logits.argmax(1) == y).double()
            found[1, places] = functional.cross_entropy(logits, y, reduction="none").double()
        right, losses = summed(found, fabric).cpu().numpy()
        return Score(right > 0, losses)

    return judge


def score_before(module: nn.Module, judge: Judge, config: LoopConfig, fabric: Fabric) -> Score | None:
    """How ``module`` answers before it is trained, on the threads of the training."""
    if fabric.device.type != "cpu":
        return judge(module.to(fabric.device))
    with on_threads(threads_of(config.threads, local_world()).count):
        return judge(module)


def _spread(images: int, most: int) -> np.ndarray:
    return np.arange(images) if images <= most else np.arange(most) * images // most
