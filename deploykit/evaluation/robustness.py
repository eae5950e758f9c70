"""Accuracy on corrupted pictures: a variant that equals the baseline on clean ones may still be worse on real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.base.errors import AnswerNo
from deploykit.base.progress import SILENT, Progress
from deploykit.base.runner import fed_batch
from deploykit.evaluation.corruptions import CORRUPTIONS, STRENGTHS, corrupt
from deploykit.stats.paired import bootstrap_mean, score_interval
from deploykit.stats.proportions import wilson

if TYPE_CHECKING:
    from deploykit.base.preprocessing import Preprocessing
    from deploykit.base.runner import Runner
    from deploykit.data import Split

Answers = dict[tuple[str, int], np.ndarray]
"""Corruption and strength → predicted class of each picture, int64 [n]."""
FEW_DISCORDANT = 10


def corrupted_answers(
    runner: Runner,
    split: Split,
    preprocessing: Preprocessing,
    images: int,
    batch: int,
    seed: int,
    progress: Progress = SILENT,
    *,
    name: str = "the model",
) -> Answers:
    """Run a classifier over corrupted pictures; only one batch of them is in memory at a time.

    Args:
        runner: an open engine.
        split: whose pictures; ``images`` of them, spread evenly.
        preprocessing: of the engine.
        images: number of pictures at most, each corrupted in every way.
        batch: pictures per call.
        seed: of the corruptions.
        progress: one bar.
        name: of the variant, for the bar and messages.

    Returns:
        The answers in the data's class order.

    Raises:
        AnswerNo: NaN or infinite logits.
        BadInput: the model's classes do not fit the data's.
    """
    from deploykit.data import prepare
    from deploykit.evaluation.run_classifier import in_data_order

    chosen = split.chosen(images).tolist()
    fixed = fed_batch(runner, batch)
    size = fixed or batch
    ways = [(kind, strength) for kind in CORRUPTIONS for strength in STRENGTHS]
    found: Answers = {way: np.empty(len(chosen), dtype=np.int64) for way in ways}
    with progress.task(f"{name}: corruptions", total=len(ways) * len(chosen), unit="images") as task:
        for start in range(0, len(chosen), size):
            part = chosen[start : start + size]
            clean = [split.image(i) for i in part]
            for kind, strength in ways:
                pictures = [corrupt(image, kind, strength, seed, i) for image, i in zip(clean, part, strict=True)]
                pictures += [pictures[-1]] * (size - len(part) if fixed else 0)
                rows = runner(prepare(pictures, preprocessing))[: len(part)]
                if not np.isfinite(rows).all():
                    raise AnswerNo(f"{name}: NaN or infinite logits on pictures with {kind} of strength {strength}")
                ordered = in_data_order(rows, runner.classes, split.classes, name)
                found[kind, strength][start : start + len(part)] = ordered.argmax(axis=1)
                task.advance(len(part))
    return found


def judge_corrupted(
    answers: Answers, base: Answers | None, labels: np.ndarray, ci_level: float, seed: int
) -> list[dict[str, Any]]:
    """The report's ``robustness``: top-1 on each corruption, and the drop against the baseline on the same pictures.

    Args:
        answers: of the variant.
        base: of the baseline; None leaves the drop out.
        labels: int64 [n] of the pictures.
        ci_level: of all intervals.
        seed: of the bootstrap.
    """
    found = []
    for (kind, strength), predicted in answers.items():
        right = predicted == labels
        low, high = wilson(int(right.sum()), len(labels), ci_level)
        row: dict[str, Any] = {"corruption": kind, "strength": strength, "n": len(labels)}
        row |= {"top1": float(right.mean()), "top1_low": low, "top1_high": high}
        if base is not None:
            row |= _drop(right, base[kind, strength] == labels, ci_level, seed)
        found.append(row)
    return found


def _drop(right: np.ndarray, base_right: np.ndarray, ci_level: float, seed: int) -> dict[str, float]:
    lost, won = int((base_right & ~right).sum()), int((right & ~base_right).sum())
    if lost + won < FEW_DISCORDANT:
        low, high = score_interval(lost, won, len(right), ci_level)
    else:
        low, high = bootstrap_mean(base_right.astype(np.float64) - right, ci_level, seed=seed)
    return {"drop_pt": 100 * (lost - won) / len(right), "drop_pt_low": 100 * low, "drop_pt_high": 100 * high}
