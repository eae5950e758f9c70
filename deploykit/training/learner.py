"""The network while it learns: one optimizer step, its score on ``select``, and the states that it may be put back to."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from deploykit.base.errors import BadInput
from deploykit.base.progress import SILENT, Progress
from deploykit.config.train import LoopConfig
from deploykit.training.augment import augment, mix
from deploykit.training.batches import Batch, Batches
from deploykit.training.distributed import broadcast_buffers, share_statistics
from deploykit.training.modes import train_mode, training_layout
from deploykit.training.optim import MovingAverage, make_optimizer
from deploykit.training.randomness import seed_of
from deploykit.training.resume import Course, ResumeFile, RunState, Weights
from deploykit.training.signals import Stop
from deploykit.training.step import Judge, Score, Step

Announce = Callable[[int, np.ndarray], None]


@dataclass(frozen=True)
class Training:
    """What is trained, on what and how.

    Attributes:
        module: on any device; parameters that need no gradient stay as they are.
        batches: the train split.
        config: the loop's settings.
        step: ``step(module, x, y) -> loss``: x float [N, 3, H, W] normalised, y int64 [N] (float [N, C] when mixed).
        fabric: of :func:`deploykit.training.distributed.open_fabric`.
        num_classes: C.
        judge: network → score on ``select``.
        trained: the network was trained before; a rate ``auto`` is then found by trials.
        before: its score on ``select`` as it came; None: it knew nothing, or there are no such images.
        beats: an epoch has to beat that, and training must not fall below it.
        gain: how many times the gradient of the loss is that of cross-entropy.
        guarded: where training falls far below its best, or diverges, it goes back and on at a lower rate; always so with
            a rate ``auto``.
        resume: where the state is kept; None: nowhere.
        stop: the wish to stop; the state is kept first.
        progress: shows loss and accuracy, says decisions.
        masks: parameter name → bool mask of the weights that may be other than zero.
        announce: told epoch and indices of the images before each step.
    """

    module: nn.Module
    batches: Batches
    config: LoopConfig
    step: Step
    fabric: Fabric
    num_classes: int
    judge: Judge | None = None
    trained: bool = False
    before: Score | None = None
    beats: bool = True
    gain: float = 1.0
    guarded: bool = False
    resume: ResumeFile | None = None
    stop: Stop = field(default_factory=Stop)
    progress: Progress = SILENT
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    announce: Announce | None = None


class Learner:
    """The network of a training with its optimizer and moving average, set up for all processes.

    ``origin``: its weights as it came.
    """

    def __init__(self, training: Training) -> None:
        self.given, self.config, self.fabric = training, training.config, training.fabric
        fabric, config = self.fabric, self.config
        self.layout, said = training_layout(training.module, fabric.device.type, channels_last=config.channels_last)
        module, note = share_statistics(training.module, fabric)
        for one in (note, said):
            if one:
                training.progress.say(one)
        self.module: nn.Module = module.to(device=fabric.device, memory_format=self.layout)  # type: ignore[call-overload]
        self.mean, self.std = (
            torch.tensor(values, device=fabric.device).view(1, -1, 1, 1)
            for values in (training.batches.preprocessing.mean, training.batches.preprocessing.std)
        )
        masked = [(self.module.get_parameter(name), mask) for name, mask in training.masks.items()]
        self.masked = [(parameter, mask.to(parameter.device)) for parameter, mask in masked]
        optimizer = make_optimizer(self.module, config)
        wrapped, self.optimizer = fabric.setup(self.module, optimizer, move_to_device=False)
        self.wrapped: nn.Module = wrapped
        self.fresh = copy.deepcopy(self.optimizer.state_dict())
        self.average = MovingAverage(self.module, config.ema) if config.ema else None
        self.shadow = copy.deepcopy(self.module) if self.average and training.judge else None
        self.origin = self.weights()

    def train_on(self, batch: Batch, epoch: int, at: int, rate: float) -> Tensor:
        """One optimizer step on batch ``at`` of ``epoch``.

        Returns the detached loss, scaled so that the processes' mean is that of the global batch.
        """
        config, fabric = self.config, self.fabric
        torch.manual_seed(seed_of(config.seed, "step", epoch, at, fabric.global_rank))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        train_mode(self.module)
        x, y = self._tensors(batch, epoch, at)
        if self.given.announce is not None:
            self.given.announce(epoch, batch.indices)
        loss = self._loss(x, y) * batch.share
        fabric.backward(loss)
        if config.clip_norm is not None:
            fabric.clip_gradients(self.wrapped, self.optimizer, max_norm=config.clip_norm, error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for parameter, mask in self.masked:
                parameter.mul_(mask)
        if self.average is not None:
            self.average.update(self.module)
        return loss.detach()

    def _tensors(self, batch: Batch, epoch: int, at: int) -> tuple[Tensor, Tensor]:
        config, device = self.config, self.fabric.device
        x = torch.from_numpy(batch.images).to(device, non_blocking=True).permute(0, 3, 1, 2)
        y = torch.from_numpy(np.ascontiguousarray(batch.labels)).to(device, non_blocking=True)
        x = augment(x, config.augment, config.seed, epoch, batch.indices)
        x = x.to(torch.float32).div_(255).sub_(self.mean).div_(self.std).contiguous(memory_format=self.layout)
        seed = seed_of(config.seed, "mix", epoch, at, self.fabric.global_rank)
        return mix(x, y, config.augment, self.given.num_classes, seed)

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        try:
            return self.given.step(self.wrapped, x, y)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise BadInput(
                "BatchNorm cannot train on one picture", got=f"batch {self.config.batch}", fix="Use --batch 2 or more."
            ) from error

    def score(self, most: int | None = None, *, averaged: bool = False) -> Score | None:
        """On ``select``, or on at most ``most`` of its images; None where there are none.

        ``averaged``: of the moving average, where there is one.
        """
        if self.given.judge is None:
            return None
        judged = self.module
        if averaged and self.shadow is not None and self.average is not None:
            self.shadow.load_state_dict(self.average.tensors)
            judged = self.shadow
        broadcast_buffers(judged, self.fabric)
        return self.given.judge(judged, most)

    def weights(self) -> Weights:
        """A copy of what it is now, on the CPU."""
        ema = _stored(self.average.tensors) if self.average else None
        return {"tensors": _stored(self.module.state_dict()), "ema": ema}

    def put(self, weights: Weights, updates: int) -> None:
        """Go back to ``weights``, after ``updates`` steps; the optimizer forgets."""
        self.module.load_state_dict(weights["tensors"])
        self.optimizer.load_state_dict(copy.deepcopy(self.fresh))
        if self.average is not None and weights["ema"] is not None:
            self.average.restore(updates, weights["ema"])


class Stateful(Protocol):
    """What can tell its state and take one up: optimizers, and what scales the losses of 16-bit training."""

    def state_dict(self) -> dict[str, Any]:
        """All that it needs to go on."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state."""


def state_of(course: Course, learner: Learner, precision: Stateful, best: Weights | None) -> RunState:
    """Everything that the run needs to go on from here; its tensors are those of the run, not copies."""
    return {
        "course": dict(vars(course)),
        "module": learner.module.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "average": learner.average.state() if learner.average else None,
        "precision": precision.state_dict(),
        "best": best,
    }


def take_up(stored: RunState, learner: Learner, precision: Stateful) -> tuple[Course, Weights | None]:
    """Put a kept state into the parts of a run, in place; how far it had come, and its best epoch."""
    learner.module.load_state_dict(stored["module"])
    learner.optimizer.load_state_dict(dict(stored["optimizer"]))
    if learner.average is not None and stored["average"] is not None:
        learner.average.restore(stored["average"]["updates"], stored["average"]["tensors"])
    precision.load_state_dict(dict(stored["precision"]))
    return Course(**stored["course"]), stored["best"]


def _stored(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
