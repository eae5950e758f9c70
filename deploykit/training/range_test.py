"""The learning rate of a network that was trained before, found by short trials, and the test by which training goes back.

A rate that suits random weights throws a trained network off, and by how much depends on the network, the loss (the gradient
of T²·KL is T times that of cross-entropy) and the batch. So it is tried: from the same weights and on the same batches each
candidate trains some steps in the shape of a whole run, a warm-up and then a cosine to 0, and is judged on a slice of
``select``. (A single ramp of the rate, Smith 2017, is cheaper, but says where training breaks, not where it ends best.) A
ladder of candidates is climbed from the usual rate of fine-tuning, first down. Of those that are no worse than the best by
more than one standard error over the images (Breiman et al. 1984, section 3.4.3) the largest is taken: trials are shorter
than the run, and what is short favours small rates (Wu et al. 2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from deploykit.config.train import LoopConfig
from deploykit.training.batches import Batch, Batches
from deploykit.training.distributed import summed
from deploykit.training.learner import Learner
from deploykit.training.optim import share_of_rate
from deploykit.training.resume import Course, Trial
from deploykit.training.step import Score

LADDER = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001, 0.00003)
USUAL = {"sgd": 0.01, "adamw": 0.0003}
"""Rates of fine-tuning with cross-entropy."""
SHARE, FEWEST, MOST = 0.1, 16, 64
"""Steps of a trial: a share of the run's, within bounds."""
WARMUP = 0.1
SLICE = 512
"""Images of ``select`` that a trial is judged on, at most."""
ENOUGH = 16
"""Images of ``select`` without which trials tell nothing."""
FALL = 0.1
LOWER = 0.25
MOST_RETRIES = 3


def found_rate(learner: Learner, course: Course, save: Callable[[], None]) -> float:
    """The peak rate for a network that was trained before; with hardly any ``select`` images the usual one.

    ``course``: its trials are gone on with. ``save``: keeps the state, at the beginning and after each trial.

    Raises:
        KeyboardInterrupt: a stop was asked for.
    """
    given = learner.given
    config, batches, progress = given.config, given.batches, given.progress
    first = first_rate(config.optimizer, given.gain)
    images = 0 if given.judge is None or given.before is None else len(given.before.right)
    if images < ENOUGH:
        progress.say(f"learning rate {first:g}: {images} select images are too few to try rates on")
        return first
    steps = steps_of_trial(config.epochs * batches.per_epoch)
    save()
    while (rate := next_rate(course.trials, first)) is not None:
        course.trials.append(_trial(learner, rate, steps))
        learner.put(learner.origin, 0)
        save()
    found = best_rate(course.trials)
    progress.say(f"learning rate {found:g}, by trials of {steps} steps each: {shown(course.trials)}")
    return found


def _trial(learner: Learner, rate: float, steps: int) -> Trial:
    """Some steps from the network as it came, judged on a slice of ``select``."""
    given, shape = learner.given, shape_of_trial(learner.config)
    for number, (epoch, at, batch) in enumerate(_first(given.batches, steps)):
        loss = learner.train_on(batch, epoch, at, rate * share_of_rate(shape, number, steps))
        asked = loss.new_tensor(float(given.stop.asked))
        mean, asked_by = summed(torch.stack([loss.float(), asked]), given.fabric).tolist()
        if asked_by:
            raise KeyboardInterrupt
        if not math.isfinite(mean):
            return {"lr": rate, "loss": None, "top1": 0.0, "losses": []}
    score = learner.score(SLICE)
    assert score is not None
    loss_of = score.loss if math.isfinite(score.loss) else None
    return {"lr": rate, "loss": loss_of, "top1": score.top1, "losses": score.losses.tolist()}


def _first(batches: Batches, steps: int) -> Iterator[tuple[int, int, Batch]]:
    """The first batches of a run with their epochs and places."""
    for number in range(steps):
        epoch, at = divmod(number, batches.per_epoch)
        if at == 0:
            of_epoch = batches(epoch)
        yield epoch, at, next(of_epoch)


def first_rate(optimizer: str, gain: float) -> float:
    """Where the ladder is entered.

    ``gain``: how many times the loss's gradient is that of cross-entropy; AdamW's steps do not depend on it.
    """
    usual = USUAL[optimizer] / (gain if optimizer == "sgd" else 1.0)
    return min(LADDER, key=lambda rate: abs(math.log(rate / usual)))


def steps_of_trial(steps: int) -> int:
    """Steps of one trial before a run of ``steps``."""
    return min(steps, max(FEWEST, min(MOST, round(SHARE * steps))))


def next_rate(tried: Sequence[Trial], first: float) -> float | None:
    """The candidate to try next, or None where all that matter were tried: down from ``first`` while that gains, else up."""
    loss = {one["lr"]: math.inf if one["loss"] is None else one["loss"] for one in tried}
    if first not in loss:
        return first
    at = LADDER.index(first)
    for walk in (LADDER[at + 1 :], LADDER[:at][::-1]):
        last = first
        for rate in walk:
            if rate not in loss:
                return rate
            if loss[rate] >= loss[last] and math.isfinite(loss[last]):
                break
            last = rate
        if last != first:
            return None
    return None


def best_rate(tried: Sequence[Trial]) -> float:
    """The largest rate that is no worse than the best by more than a standard error; the smallest where all diverged."""
    sound = [one for one in tried if one["loss"] is not None]
    if not sound:
        return min(one["lr"] for one in tried)
    best = min(sound, key=lambda one: one["loss"] or 0.0)

    def as_good(one: Trial) -> bool:
        worse = np.asarray(one["losses"]) - np.asarray(best["losses"])
        return float(worse.mean()) <= float(worse.std()) / math.sqrt(len(worse))

    return max(one["lr"] for one in sound if as_good(one))


def warmed_up(config: LoopConfig) -> LoopConfig:
    """``config`` with a warm-up over a tenth of the run, at most an epoch, where none was asked for."""
    if config.warmup_epochs:
        return config
    return config.model_copy(update={"warmup_epochs": min(1.0, WARMUP * config.epochs)})


def shape_of_trial(config: LoopConfig) -> LoopConfig:
    """``config`` for a trial as its only epoch: a warm-up, then a cosine to 0."""
    return config.model_copy(update={"epochs": 1, "schedule": "cosine", "warmup_epochs": 2 * WARMUP})


def shown(tried: Sequence[Trial]) -> str:
    """The candidates' figures in one line, the largest rate first."""

    def figures(one: Trial) -> str:
        return "diverged" if one["loss"] is None else f"loss {one['loss']:.3f}, top-1 {one['top1']:.3f}"

    return "; ".join(f"{one['lr']:g}: {figures(one)}" for one in sorted(tried, key=lambda one: -one["lr"]))


def has_fallen(now: Score, best: float, before: Score, classes: int) -> bool:
    """Whether training lost what the network knew.

    Top-1 is below ``best``, the best so far, by more than 10 points and three standard errors, or the cross-entropy is
    twice that of the network as it came (``before``) and twice that of a guess.
    """
    spread = math.sqrt((best * (1 - best) + now.top1 * (1 - now.top1)) / len(now.right))
    if best - now.top1 > max(FALL, 3 * spread):
        return True
    return not now.loss <= 2 * max(before.loss, math.log(classes))
