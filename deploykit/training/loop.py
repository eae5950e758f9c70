"""The one training loop, used by train, distill and QAT."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from deploykit.base.errors import BadInput
from deploykit.base.progress import SILENT, Progress
from deploykit.config.train import LoopConfig
from deploykit.training.augment import augment, mix
from deploykit.training.batches import Batch, Batches
from deploykit.training.distributed import broadcast_buffers, local_world, share_statistics, summed
from deploykit.training.modes import train_mode, training_layout
from deploykit.training.optim import MovingAverage, learning_rate, make_optimizer
from deploykit.training.randomness import seed_of
from deploykit.training.resume import (
    SAVE_EVERY_S,
    BestEpoch,
    Course,
    Diverged,
    Outcome,
    ResumeFile,
    RunState,
    state_of,
    take_up,
)
from deploykit.training.signals import Stop
from deploykit.training.step import Step, Validate
from deploykit.training.threads import on_threads, threads_of

Announce = Callable[[int, np.ndarray], None]
LOOK_EVERY_GPU = 10


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
        validate: network → top-1 on ``select``.
        resume: where the state is kept; None: nowhere.
        stop: the wish to stop; the state is kept first.
        progress: shows loss and accuracy, says decisions.
        masks: parameter name → bool mask of the weights that may be other than zero.
        announce: told epoch and indices of the pictures before each step.
    """

    module: nn.Module
    batches: Batches
    config: LoopConfig
    step: Step
    fabric: Fabric
    num_classes: int
    validate: Validate | None = None
    resume: ResumeFile | None = None
    stop: Stop = field(default_factory=Stop)
    progress: Progress = SILENT
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    announce: Announce | None = None


def fit(training: Training) -> Outcome:
    """Train the module in place and return the best epoch's weights.

    The epoch that is best on ``select`` is kept, of equals the last one; without ``select`` pictures the last.

    Raises:
        Diverged: the loss became NaN or infinite.
        BadInput: nothing to train, or a batch too small for BatchNorm.
        KeyboardInterrupt: ``stop`` was asked for.
    """
    stored = training.resume.load(training.progress) if training.resume is not None else None
    with on_threads(_threads(training, stored)):
        try:
            run = _Run(training)
            run.begin(stored)
            training.stop.patient = True
            return run.train()
        finally:
            training.stop.patient = False


def _threads(training: Training, stored: RunState | None) -> int:
    """Those of the state that is gone on with, else by the rule; on a GPU as they are."""
    if stored is not None:
        return int(stored["course"]["threads"])
    if training.fabric.device.type != "cpu":
        return torch.get_num_threads()
    found = threads_of(training.config.threads, local_world())
    training.progress.say(found.why)
    return found.count


class _Run:
    def __init__(self, given: Training) -> None:
        self.batches, self.config, self.step, self.fabric = given.batches, given.config, given.step, given.fabric
        self.num_classes, self.validate, self.resume = given.num_classes, given.validate, given.resume
        self.stop, self.progress, self.masks, self.announce = given.stop, given.progress, given.masks, given.announce
        self.course = Course()
        self.best: BestEpoch | None = None
        fabric, config = self.fabric, self.config
        self.layout, said = training_layout(given.module, fabric.device.type, channels_last=config.channels_last)
        self.module, note = share_statistics(given.module, fabric)
        for one in (note, said):
            if one:
                self.progress.say(one)
        self.module = self.module.to(device=fabric.device, memory_format=self.layout)  # type: ignore[call-overload]
        self.mean, self.std = (
            torch.tensor(values, device=fabric.device).view(1, 3, 1, 1)
            for values in (self.batches.preprocessing.mean, self.batches.preprocessing.std)
        )

    def begin(self, stored: RunState | None) -> None:
        """Set up module and optimizer, and take up a stored state."""
        self.course.threads = torch.get_num_threads()
        optimizer = make_optimizer(self.module, self.config)
        self.masked = [(self.module.get_parameter(name), mask) for name, mask in self.masks.items()]
        self.masked = [(parameter, mask.to(parameter.device)) for parameter, mask in self.masked]
        wrapped, self.optimizer = self.fabric.setup(self.module, optimizer, move_to_device=False)
        self.wrapped: nn.Module = wrapped
        self.average = MovingAverage(self.module, self.config.ema) if self.config.ema else None
        self.shadow = copy.deepcopy(self.module) if self.average and self.validate else None
        if stored:
            self.course, self.best = take_up(
                stored, self.module, self.optimizer, self.average, self.fabric.strategy.precision
            )
            done = self.course.epoch
            self.progress.say(f"going on after epoch {done} of {self.config.epochs}, step {self.course.step}")
        self.started = self.saved = time.monotonic()
        self.before_s = self.course.total_s

    def train(self) -> Outcome:
        """All epochs that are left."""
        course, config = self.course, self.config
        left = config.epochs * self.batches.images - course.images
        with self.progress.task("train", total=max(left, 1), unit="images") as self.task:
            while course.epoch < config.epochs and not self._stale():
                self._epoch()
                self._end_of_epoch()
        return self.outcome()

    def outcome(self) -> Outcome:
        """The best epoch so far."""
        assert self.best is not None
        return Outcome(self.best["tensors"], self.best["ema"], self.course)

    def _stale(self) -> bool:
        patience = self.config.early_stop
        if patience is None or self.course.stale < patience:
            return False
        self.progress.say(f"stopped early: {patience} epochs without a better top-1 on select")
        return True

    def _epoch(self) -> None:
        course, every = self.course, 1 if self.fabric.device.type == "cpu" else LOOK_EVERY_GPU
        losses: list[Tensor] = []
        begin, images = time.monotonic(), 0
        batches = self.batches(course.epoch, course.step)
        for at, batch in enumerate(batches, start=course.step):
            losses.append(self._train_on(batch, at))
            images += round(len(batch.images) * self.fabric.world_size / batch.share)
            if len(losses) < every and at + 1 < self.batches.per_epoch:
                continue
            stop = self._look_at(losses, at)
            now = time.monotonic()
            course.step, course.images, course.train_s = at + 1, course.images + images, course.train_s + now - begin
            self._show(images)
            losses, images = [], 0
            if stop or (now - self.saved > SAVE_EVERY_S and at + 1 < self.batches.per_epoch):
                self._save()
            if stop:
                self._interrupt()
            begin = time.monotonic()

    def _train_on(self, batch: Batch, at: int) -> Tensor:
        """One optimizer step; the detached loss, scaled so that the processes' mean is that of the global batch."""
        config, epoch, fabric = self.config, self.course.epoch, self.fabric
        torch.manual_seed(seed_of(config.seed, "step", epoch, at, fabric.global_rank))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, epoch * self.batches.per_epoch + at, self.batches.per_epoch)
        train_mode(self.module)
        x, y = self._tensors(batch, epoch, at)
        if self.announce is not None:
            self.announce(epoch, batch.indices)
        loss = self._loss(self.wrapped, x, y) * batch.share
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
        return mix(x, y, config.augment, self.num_classes, seed)

    def _loss(self, module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        try:
            return self.step(module, x, y)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise BadInput(
                "BatchNorm cannot train on one picture", got=f"batch {self.config.batch}", fix="Use --batch 2 or more."
            ) from error

    def _look_at(self, losses: list[Tensor], at: int) -> bool:
        """Take in the losses of the last steps, over all processes; whether one of these wants to stop."""
        values = torch.stack(losses).float()
        asked = values.new_full((1,), float(self.stop.asked))
        *means, asked_by = (summed(torch.cat([values, asked]), self.fabric) / self.fabric.world_size).tolist()
        for i, value in enumerate(means):
            if not math.isfinite(value):
                kept = self.outcome() if self.best is not None else None
                raise Diverged(self.course.epoch + 1, at - len(losses) + i + 2, kept)
            self.course.loss_sum += value
        return asked_by > 0

    def _show(self, images: int) -> None:
        course = self.course
        shown: dict[str, object] = {"epoch": course.epoch + 1, "loss": course.loss_sum / course.step}
        if course.top1 and course.top1[-1] is not None:
            shown["accuracy"] = course.top1[-1]
        self.task.advance(images, **shown)

    def _end_of_epoch(self) -> None:
        course = self.course
        course.losses.append(course.loss_sum / course.step)
        course.top1.append(self._select_top1())
        if course.best == len(course.top1) - 1:
            self.best = {
                "tensors": _stored(self.module.state_dict()),
                "ema": _stored(self.average.tensors) if self.average else None,
            }
        shown = "" if course.top1[-1] is None else f", select top-1 {course.top1[-1]:.4f}"
        self.progress.say(f"epoch {course.epoch + 1}/{self.config.epochs}: loss {course.losses[-1]:.4f}{shown}")
        course.epoch, course.step, course.loss_sum = course.epoch + 1, 0, 0.0
        self._save()
        if summed(torch.tensor(float(self.stop.asked), device=self.fabric.device), self.fabric) > 0:
            self._interrupt()

    def _select_top1(self) -> float | None:
        if self.validate is None:
            return None
        judged = self.module
        if self.shadow is not None and self.average is not None:
            self.shadow.load_state_dict(self.average.tensors)
            judged = self.shadow
        broadcast_buffers(judged, self.fabric)
        return self.validate(judged)

    def _interrupt(self) -> None:
        if self.resume is not None:
            course = self.course
            where = f"epoch {course.epoch + 1}, step {course.step}" if course.step else f"epoch {course.epoch}"
            self.progress.say(f"stopped after {where}; the state is kept in {self.resume.path.name}")
        raise KeyboardInterrupt

    def _save(self) -> None:
        self.saved = time.monotonic()
        self.course.total_s = self.before_s + self.saved - self.started
        if self.resume is None or self.fabric.global_rank != 0:
            return
        self.resume.save(
            state_of(self.course, self.module, self.optimizer, self.average, self.fabric.strategy.precision, self.best)
        )


def _stored(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
