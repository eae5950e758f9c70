"""Training a classifier: from data and a network to its model file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor, nn

from deploykit.base.artifact import Manifest
from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.config.train import TrainConfig
from deploykit.data import DataSource, Split
from deploykit.models.module_outputs import input_channels
from deploykit.training.batches import shared_batches
from deploykit.training.learner import Training
from deploykit.training.loop import fit
from deploykit.training.model_file import (
    Lesson,
    Run,
    check_forward,
    course_facts,
    kept_when_diverged,
    measured_of,
    write_trained,
)
from deploykit.training.resume import Outcome, ResumeFile
from deploykit.training.start_model import Start
from deploykit.training.step import cross_entropy_step, judge_on, penalised_step, score_before

if TYPE_CHECKING:
    Penalty = Callable[[nn.Module], Tensor]
    PenaltyFor = Callable[[nn.Module, tuple[int, int]], Penalty]


def splits_of(data: DataSource) -> dict[str, Split]:
    """All three splits by name."""
    return {name: data.split(name) for name in ("train", "select", "test")}


def train_classifier(
    run: Run, config: TrainConfig, data: DataSource, start: Start, penalty_for: PenaltyFor | None = None
) -> Manifest:
    """Train ``start`` on ``data`` and write the epoch that is best on ``select``; a run that was interrupted goes on.

    ``penalty_for``: from a network and the size of its input (height, width) to what is added to the loss with
    ``config.sparsify_strength``. Returns the manifest as written, with the facts of
    :class:`deploykit.commands.train.TrainResult`.

    Raises:
        BadInput: network and data do not fit; no pictures to stop by.
        AnswerNo: the loss became NaN.
    """
    splits = splits_of(data)
    preprocessing = _preprocessing(config, start, data)
    check_forward(start, preprocessing, len(data.classes))
    if config.early_stop is not None and len(splits["select"]) == 0:
        raise BadInput("early_stop needs select pictures", got=f"{len(splits['train'])} pictures in all")
    lesson = Lesson(run, start, splits, preprocessing)
    resume = ResumeFile(run.target, run.manifest.key, run.manifest.config)
    resume.check_writable()
    penalty = None if penalty_for is None else penalty_for(start.module, preprocessing.size)
    with kept_when_diverged(lesson, resume):
        outcome = _fit(lesson, config, penalty, resume)
    facts = course_facts(outcome.course, len(splits["select"]), run.fabric)
    if run.fabric.global_rank != 0:
        return replace(run.manifest, facts=facts, measured=measured_of(outcome.course))
    described = write_trained(lesson, outcome, facts)
    resume.remove()
    return described


def _fit(lesson: Lesson, config: TrainConfig, penalty: Penalty | None, resume: ResumeFile) -> Outcome:
    run, splits, preprocessing = lesson.run, lesson.splits, lesson.preprocessing
    step = cross_entropy_step(config.label_smoothing)
    judge = judge_on(splits["select"], preprocessing, config.batch, run.fabric)
    trained = config.model.weights is not None or config.model.download
    training = Training(
        lesson.start.module,
        shared_batches(splits["train"], preprocessing, config, run.fabric),
        config,
        step if penalty is None else penalised_step(step, penalty, config.sparsify_strength),
        run.fabric,
        num_classes=len(splits["select"].classes),
        judge=judge,
        trained=trained,
        before=score_before(lesson.start.module, judge, config, run.fabric) if trained else None,
        beats=penalty is None,  # what it prepares for pruning answers worse on purpose
        resume=resume,
        stop=run.stop,
        masks=lesson.start.masks or {},
        progress=run.progress,
    )
    return fit(training)


def _preprocessing(config: TrainConfig, start: Start, data: DataSource) -> Preprocessing:
    """The start file's where it states one, else the data's; what the configuration says comes before both."""
    stated = replace(config.stated, layout=None)
    found = start.preprocessing
    if found is None:
        return replace(stated, size=None).over(data.preprocessing(stated.size, input_channels(start.module)))
    if stated.size is not None and found.size != stated.size:
        found = replace(data.preprocessing(stated.size, found.channels), mean=found.mean, std=found.std)
    return replace(stated, size=None).over(replace(found, embedded=False, layout="NCHW"))
