"""The one training loop, used by train, distill and QAT."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from deploykit.training.distributed import local_world, summed
from deploykit.training.learner import Learner, Training, state_of, take_up
from deploykit.training.optim import share_of_rate
from deploykit.training.range_test import LOWER, MOST_RETRIES, SLICE, found_rate, has_fallen, warmed_up
from deploykit.training.resume import SAVE_EVERY_S, Course, Diverged, Outcome, RunState, Weights
from deploykit.training.step import Score
from deploykit.training.threads import on_threads, threads_of

LOOK_EVERY_GPU = 10
GLANCE_EVERY = 64
"""Steps between two glances at ``select`` in the first epoch."""


def fit(training: Training) -> Outcome:
    """Train the module in place and return the best epoch's weights.

    The epoch that is best on ``select`` is kept, of equals the last one, or the network as it came where it was judged
    before and none is better; without ``select`` images the last.

    Raises:
        Diverged: the loss became NaN or infinite.
        BadInput: nothing to train, or a batch too small for BatchNorm.
        KeyboardInterrupt: ``stop`` was asked for.
    """
    stored = training.resume.load(training.progress) if training.resume is not None else None
    with on_threads(_threads(training, stored)):
        try:
            run = _Run(training, stored)
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


class _Fallen(Exception):
    """Training lost what the network knew. ``top1``: on ``select``, there."""

    def __init__(self, top1: float) -> None:
        super().__init__(top1)
        self.top1 = top1


class _Run:
    """A training from its beginning, or from the state ``stored`` of it, to its end."""

    def __init__(self, given: Training, stored: RunState | None) -> None:
        self.given, self.batches, self.fabric = given, given.batches, given.fabric
        self.resume, self.stop, self.progress = given.resume, given.stop, given.progress
        self.config = warmed_up(given.config) if given.trained and given.config.lr == "auto" else given.config
        self.guarded = given.guarded or given.config.lr == "auto"
        self.learner = Learner(given)
        self.course = Course(threads=torch.get_num_threads())
        self.best: Weights | None = None
        if given.before is not None and given.beats:
            self.course.before, self.best = given.before.top1, self.learner.origin
        if stored:
            precision = self.fabric.strategy.precision
            self.course, self.best = take_up(stored, self.learner, precision)
            done = f"epoch {self.course.epoch} of {self.config.epochs}, step {self.course.step}"
            self.progress.say(f"going on after {done if self.course.lr else 'trials of the learning rate'}")
        self.started = self.saved = time.monotonic()
        self.before_s = self.course.total_s

    def train(self) -> Outcome:
        """All epochs that are left."""
        course, config = self.course, self.config
        if not course.lr:
            course.lr = self._rate()
        left = config.epochs * self.batches.images - course.images
        with self.progress.task("train", total=max(left, 1), unit="images") as self.task:
            while course.epoch < config.epochs and not self._stale():
                try:
                    self._epoch()
                    self._end_of_epoch()
                except (_Fallen, Diverged) as trouble:
                    if not self._goes_back(trouble):
                        if isinstance(trouble, Diverged):
                            raise
                        break
        return self.outcome()

    def outcome(self) -> Outcome:
        """The best epoch so far."""
        assert self.best is not None
        return Outcome(self.best["tensors"], self.best["ema"], self.course)

    def _rate(self) -> float:
        """The peak rate: as asked, else by trials for a network that was trained before, else the fixed one."""
        if self.config.lr != "auto":
            return self.config.lr
        if not self.given.trained:
            return self.config.scratch_lr
        try:
            return found_rate(self.learner, self.course, self._save)
        except KeyboardInterrupt:
            self._interrupt()
            raise

    def _stale(self) -> bool:
        patience = self.config.early_stop
        if patience is None or self.course.stale < patience:
            return False
        self.progress.say(f"stopped early: {patience} epochs without a better top-1 on select")
        return True

    def _epoch(self) -> None:
        course, every = self.course, 1 if self.fabric.device.type == "cpu" else LOOK_EVERY_GPU
        losses: list[Tensor] = []
        begin, images, per_epoch = time.monotonic(), 0, self.batches.per_epoch
        batches = self.batches(course.epoch, course.step)
        for at, batch in enumerate(batches, start=course.step):
            rate = course.lr * share_of_rate(self.config, course.epoch * per_epoch + at, per_epoch)
            losses.append(self.learner.train_on(batch, course.epoch, at, rate))
            images += round(len(batch.images) * self.fabric.world_size / batch.share)
            if len(losses) < every and at + 1 < per_epoch:
                continue
            stop = self._look_at(losses, at)
            now, glance = time.monotonic(), (at + 1) // GLANCE_EVERY > course.step // GLANCE_EVERY
            course.step, course.images, course.train_s = at + 1, course.images + images, course.train_s + now - begin
            self._show(images)
            losses, images = [], 0
            if glance and at + 1 < per_epoch:
                self._glance()
            if stop or (now - self.saved > SAVE_EVERY_S and at + 1 < per_epoch):
                self._save()
            if stop:
                self._interrupt()
            begin = time.monotonic()

    def _look_at(self, losses: list[Tensor], at: int) -> bool:
        """Take in the losses of the last steps, over all processes; whether one of these wants to stop."""
        values = torch.stack(losses).float()
        asked = values.new_full((1,), float(self.stop.asked))
        *means, asked_by = (summed(torch.cat([values, asked]), self.fabric) / self.fabric.world_size).tolist()
        for i, value in enumerate(means):
            if not math.isfinite(value):
                kept = self.outcome() if self.course.best >= 0 else None
                raise Diverged(self.course.epoch + 1, at - len(losses) + i + 2, kept)
            self.course.loss_sum += value
        return asked_by > 0

    def _glance(self) -> None:
        """In the first epoch of an attempt, whether training falls already, on a slice of ``select``."""
        begun = self.course.retries[-1]["to"] if self.course.retries else 0
        if self.guarded and self.course.epoch == begun and (score := self.learner.score(SLICE)) is not None:
            self._check(score)

    def _check(self, score: Score) -> None:
        """Raise where training fell below what the network knew; only say so where the rate is the user's."""
        before, best = self.given.before, self.course.best_top1
        if not self.given.beats or before is None or best is None:
            return
        if not has_fallen(score, best, before, self.given.num_classes):
            return
        if self.guarded:
            raise _Fallen(score.top1)
        self.progress.warn(f"select top-1 fell from {best:.4f} to {score.top1:.4f}: lower --lr, or leave it out")

    def _goes_back(self, trouble: _Fallen | Diverged) -> bool:
        """Go back to the best state, at a lower rate; False where that may not be, or was done often enough."""
        course, top1 = self.course, trouble.top1 if isinstance(trouble, _Fallen) else None
        if not self.guarded or (isinstance(trouble, Diverged) and trouble.at_once):
            return False
        said = "the loss diverged" if top1 is None else f"select top-1 fell to {top1:.4f}"
        if len(course.retries) >= MOST_RETRIES:
            self.progress.warn(f"epoch {course.epoch + 1}: {said} at rate {course.lr:g} too: given up")
            if top1 is not None:
                course.losses.append(course.loss_sum / course.step)
                course.top1.append(top1)
            return False
        to = course.best + 1
        course.retries.append({"epoch": course.epoch + 1, "to": to, "lr": course.lr, "top1": top1})
        course.lr *= LOWER
        state = f"epoch {to}" if to else "the network as it came"
        self.progress.warn(
            f"epoch {course.epoch + 1}: {said}; back to {state}, at a quarter of the rate ({course.lr:g})"
        )
        del course.losses[to:], course.top1[to:]
        course.epoch, course.step, course.loss_sum = to, 0, 0.0
        self.learner.put(self.best or self.learner.origin, to * self.batches.per_epoch)
        self._save()
        return True

    def _show(self, images: int) -> None:
        course = self.course
        shown: dict[str, object] = {"epoch": course.epoch + 1, "loss": course.loss_sum / course.step}
        if course.top1 and course.top1[-1] is not None:
            shown["accuracy"] = course.top1[-1]
        self.task.advance(images, **shown)

    def _end_of_epoch(self) -> None:
        course, score = self.course, self.learner.score(averaged=True)
        if score is not None:
            self._check(score)
        course.losses.append(course.loss_sum / course.step)
        course.top1.append(None if score is None else score.top1)
        if course.best == len(course.top1) - 1:
            self.best = self.learner.weights()
        shown = "" if score is None else f", select top-1 {score.top1:.4f}"
        self.progress.say(f"epoch {course.epoch + 1}/{self.config.epochs}: loss {course.losses[-1]:.4f}{shown}")
        course.epoch, course.step, course.loss_sum = course.epoch + 1, 0, 0.0
        self._save()
        if summed(torch.tensor(float(self.stop.asked), device=self.fabric.device), self.fabric) > 0:
            self._interrupt()

    def _interrupt(self) -> None:
        if self.resume is not None:
            course = self.course
            where = f"epoch {course.epoch + 1}, step {course.step}" if course.step else f"epoch {course.epoch}"
            where = where if course.lr else f"{len(course.trials)} trials of the learning rate"
            self.progress.say(f"stopped after {where}; the state is kept in {self.resume.path.name}")
        raise KeyboardInterrupt

    def _save(self) -> None:
        self.saved = time.monotonic()
        self.course.total_s = self.before_s + self.saved - self.started
        if self.resume is None or self.fabric.global_rank != 0:
            return
        self.resume.save(state_of(self.course, self.learner, self.fabric.strategy.precision, self.best))
