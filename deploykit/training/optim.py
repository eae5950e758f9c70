"""The learning rate as a pure function of the step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math

from deploykit.config.train import LoopConfig

ONE_CYCLE_RISE = 0.3
ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = ONE_CYCLE_START / 1e4


def learning_rate(config: LoopConfig, step: int, steps_per_epoch: int) -> float:
    """The rate of one optimizer step.

    A linear warm-up comes first; the schedule runs over the steps that remain. ``cosine`` is that of Loshchilov &
    Hutter 2017 (SGDR, without restarts), ``onecycle`` that of Smith & Topin 2018 with PyTorch's constants
    (its rise replaces the warm-up: over ``warmup_epochs`` where set, else over 30 % of the steps).

    Args:
        config: ``lr``, ``schedule`` and what belongs to it.
        step: 0 … epochs × steps_per_epoch − 1.
        steps_per_epoch: of the global batch.
    """
    total = config.epochs * steps_per_epoch
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if config.schedule == "onecycle":
        rise = warmup or max(1, round(ONE_CYCLE_RISE * total) - 1)
        if step < rise:
            return config.lr * _cosine(ONE_CYCLE_START, 1.0, step / rise)
        return config.lr * _cosine(1.0, ONE_CYCLE_END, (step - rise) / max(1, total - 1 - rise))
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "cosine":
        return config.lr * _cosine(1.0, 0.0, (step - warmup) / (total - warmup))
    if config.schedule == "step":
        return config.lr * config.step_gamma ** (step // steps_per_epoch // config.step_epochs)
    return config.lr


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
