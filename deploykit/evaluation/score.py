"""One engine's answers to a split, and what they are worth: what ``evaluate`` and ``benchmark`` do for each variant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deploykit.base.artifact import safe_name
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import Progress
from deploykit.base.runner import Runner
from deploykit.evaluation.logits import SavedLogits, save_logits
from deploykit.evaluation.metrics import Metric, judge
from deploykit.evaluation.robustness import Answers, corrupted_answers, judge_corrupted
from deploykit.evaluation.run_classifier import collect_logits
from deploykit.reporting.quality import Accuracy, JudgedAmong, Quality
from deploykit.stats.proportions import wilson

if TYPE_CHECKING:
    from deploykit.data import Split


@dataclass(frozen=True)
class Scoring:
    """How variants are scored.

    ``split``: whose images. ``batch``: images per call. ``limit``: number of images at most, spread evenly; None: all.
    ``seed``: of the bootstrap and the corruptions. ``metrics``: custom ones, by name. ``corruption_images``: number of
    images that are corrupted; 0: none.
    """

    split: Split
    batch: int
    limit: int | None
    ci_level: float
    seed: int
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    corruption_images: int = 0

    @property
    def labels(self) -> np.ndarray:
        """int64 [N], of the scored images."""
        return self.split.labels[self.split.chosen(self.limit)]


@dataclass
class Scored:
    """What a variant answered.

    ``accuracy``: as of the report. ``logits``: float32 [N, C] in the data's class order. ``judged_among``: as of the
    report. ``corrupted``: its answers to corrupted images, where these were asked for.
    """

    accuracy: Accuracy
    logits: np.ndarray
    judged_among: JudgedAmong | None = None
    corrupted: Answers | None = None


def score(
    runner: Runner, preprocessing: Preprocessing, how: Scoring, base: Scored | None, progress: Progress, *, name: str
) -> Scored:
    """Run the split and judge the answers, against the baseline's where there are any.

    Raises:
        BadInput: it is no classifier of this data, or a custom metric fails.
        AnswerNo: NaN or infinite logits.
    """
    split = how.split
    logits = collect_logits(runner, split, how.batch, how.limit, progress, name=name, preprocessing=preprocessing)
    accuracy = judge(
        logits,
        how.labels,
        None if base is None else base.logits,
        how.ci_level,
        how.seed,
        name=name,
        metrics=how.metrics,
        classes=tuple(split.classes),
        images=split.chosen(how.limit),
    )
    accuracy.split = split.name
    last = runner.outputs[0].shape[-1]
    outputs = len(runner.classes) if runner.classes else last if isinstance(last, int) else 0
    few = JudgedAmong(classes=list(split.classes), of=outputs) if len(split.classes) < outputs else None
    return Scored(accuracy, logits, few)


def quality_by_answers(predicted: np.ndarray, base: np.ndarray | None, how: Scoring) -> Quality:
    """What images without labels tell: how many answers are the baseline's, the others standing for what may be lost.

    ``predicted``: int64 [N], of the variant. ``base``: the same of the baseline; None for itself.
    """
    n = len(predicted)
    quality = Quality(metric="agreement", value=1.0, n=n, split=how.split.name)
    if base is None:
        return quality
    same = int(np.count_nonzero(predicted == base))
    low, high = wilson(same, n, how.ci_level)
    lost = {"drop_pt": 100 * (1 - same / n), "drop_pt_low": 100 * (1 - high), "drop_pt_high": 100 * (1 - low)}
    return quality.model_copy(update={"value": same / n, "low": low, "high": high, **lost})


def score_corrupted(
    found: Scored,
    runner: Runner,
    preprocessing: Preprocessing,
    how: Scoring,
    base: Scored | None,
    progress: Progress,
    *,
    name: str,
) -> None:
    """Add the accuracy on corrupted images, where it is asked for.

    Raises:
        AnswerNo: NaN or infinite logits.
    """
    if not how.corruption_images:
        return
    found.corrupted = corrupted_answers(
        runner, how.split, preprocessing, how.corruption_images, how.batch, how.seed, progress, name=name
    )
    labels = how.split.labels[how.split.chosen(how.corruption_images)]
    theirs = None if base is None else base.corrupted
    found.accuracy.robustness = judge_corrupted(found.corrupted, theirs, labels, how.ci_level, how.seed)


def save_logits_of(found: Scored, how: Scoring, folder: Path, name: str) -> None:
    """Keep the answers as ``logits/NAME.npz`` of the report's folder, and name the file in the accuracy."""
    place = f"logits/{safe_name(name)}.npz"
    (folder / "logits").mkdir(exist_ok=True)
    split = how.split
    save_logits(folder / place, SavedLogits(found.logits, how.labels, split.sha256, tuple(split.classes)))
    found.accuracy.logits_file = place
