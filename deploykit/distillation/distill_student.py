"""Distilling a student: from a network, its teachers and data to its model file."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from deploykit.base.artifact import Manifest
from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import Progress
from deploykit.config.distill import DistillConfig
from deploykit.config.options import FileFlags
from deploykit.config.train import ModelConfig, TrainConfig
from deploykit.data import DataSource
from deploykit.distillation.answers import answering
from deploykit.distillation.distillation_step import distill_step
from deploykit.distillation.features import check_pairs, plain, tapped
from deploykit.distillation.open_teachers import OpenTeacher, judge_teachers, network_of, top1_together
from deploykit.distillation.student import scaled_down
from deploykit.models import arch_text, count
from deploykit.models.module_outputs import input_channels
from deploykit.reporting.format import percent
from deploykit.training.augment import seeded
from deploykit.training.batches import shared_batches
from deploykit.training.classifier import splits_of
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
from deploykit.training.randomness import seed_of
from deploykit.training.resume import Course, Diverged, Outcome, ResumeFile
from deploykit.training.start_model import Start, start_network
from deploykit.training.step import Judge, Score, judge_on, score_before


@dataclass(frozen=True)
class Student:
    """A network about to learn.

    ``facts``: arch, and macs_of_teacher where ``auto`` chose it. ``from_file``: it was trained before.
    """

    start: Start
    facts: Mapping[str, str | int]
    from_file: bool


def start_student(
    source: Path | None, config: DistillConfig, data: DataSource, teachers: list[OpenTeacher], progress: Progress
) -> Student:
    """The student of the file ``source``, or the one that ``config.arch`` names or lets be chosen.

    Raises:
        BadInput: both are given, or the file does not fit the data.
    """
    arch, facts = config.arch, dict[str, int]()
    if source is None and arch == "auto":
        arch, facts["macs_of_teacher"] = _chosen_arch(teachers[0], config, progress)
    elif arch == "auto":
        raise BadInput("both a student file and --arch auto are given", fix="Leave one of them out.")
    wanted = TrainConfig(
        model=ModelConfig(arch=arch, weights=None if source is None else str(source)),
        data=config.data,
        **{name: getattr(config, name) for name in FileFlags.model_fields},
        seed=config.seed,
        allow_code=config.allow_code,
    )
    start = start_network(wanted, data.classes, progress, channels=data.channels, new_head=False)
    return Student(start, {"arch": arch_text(start.arch), **facts}, source is not None)


def _chosen_arch(teacher: OpenTeacher, config: DistillConfig, progress: Progress) -> tuple[str, int]:
    """The smaller network of the teacher's family, and the teacher's MACs."""
    network = network_of(teacher, "the family", "Name the student with --arch SOURCE:NAME.")
    size = config.stated.size or teacher.preprocessing.size
    loaded: Any = teacher.runner
    macs = count(network, size, teacher.preprocessing.channels).macs
    chosen = scaled_down(loaded.loaded.arch, macs, size, config.auto_macs)
    name = arch_text(chosen.arch)
    progress.say(f"student: {name}, {chosen.macs / 1e6:.2f} million MACs, {chosen.macs / macs:.2f} of the teacher's")
    return name, macs


def distill_student(
    run: Run, config: DistillConfig, data: DataSource, student: Student, teachers: list[OpenTeacher], opened: ExitStack
) -> Manifest:
    """Let ``student`` learn from ``teachers`` and write the epoch that is best on ``select``; an interrupted run goes on.

    ``teachers``: opened, not judged yet. Returns the manifest as written, with the facts of
    :class:`deploykit.commands.distill.DistillResult`.

    Raises:
        BadInput: student, teachers and data do not fit together.
        AnswerNo: the loss became NaN.
    """
    start, splits = student.start, splits_of(data)
    preprocessing = _preprocessing(config, start, teachers, data)
    check_forward(start, preprocessing, len(data.classes))
    if config.features is not None:
        check_pairs(start.module, _looked_into(teachers[0]), config.layers)
    lesson = Lesson(run, start, splits, preprocessing)
    resume = ResumeFile(run.target, run.manifest.key, run.manifest.config)
    resume.check_writable()
    judge_teachers(teachers, config, splits["select"], run.progress)
    together = top1_together(teachers, config, splits["select"].labels)
    counted = _counted(start, preprocessing)
    judge = judge_on(splits["select"], preprocessing, config.batch, run.fabric)
    score = _before(lesson, config, judge, teachers) if student.from_file else None
    before = None if score is None else score.top1
    with kept_when_diverged(lesson, resume):
        outcome = _fit(lesson, config, teachers, resume, opened, judge, score)
    course = course_facts(outcome.course, len(splits["select"]), run.fabric)
    _judge(outcome.course, together, run.progress)
    facts = {
        **course,
        "teachers": [
            {"name": one.spec.name, "target": one.spec.target, "top1_select": one.top1, "weight": one.weight}
            for one in teachers
        ],
        "top1_select_teachers": together,
        "student": {**student.facts, **counted},
        "top1_select_before": before,
    }
    if run.fabric.global_rank != 0:
        return replace(run.manifest, facts=facts, measured=measured_of(outcome.course))
    described = write_trained(lesson, outcome, facts)
    resume.remove()
    return described


def _preprocessing(config: DistillConfig, start: Start, teachers: list[OpenTeacher], data: DataSource) -> Preprocessing:
    """That of the student's file, else the first teacher's; the size asked for comes before both."""
    found = replace(start.preprocessing or teachers[0].preprocessing, embedded=False, layout="NCHW")
    if found.channels != (channels := input_channels(start.module)):
        found = data.preprocessing(found.size, channels)
    size = config.stated.size
    if size is not None and found.size != size:
        found = replace(data.preprocessing(size, found.channels), mean=found.mean, std=found.std)
    return replace(config.stated, size=None, layout=None).over(found)


def _before(lesson: Lesson, config: DistillConfig, judge: Judge, teachers: list[OpenTeacher]) -> Score:
    """The student's score on ``select`` as it came; one that needs no teacher is told of."""
    run = lesson.run
    score = score_before(lesson.start.module, judge, config, run.fabric)
    assert score is not None
    top1 = score.top1
    run.progress.say(f"student: top-1 {percent(top1)} on select as it came")
    best = max(teachers, key=lambda teacher: teacher.top1)
    if top1 > best.top1:
        run.progress.warn(
            f"the student is better on select than its teacher {best.spec.name} ({percent(top1)} and "
            f"{percent(best.top1)}): it may learn to answer worse; are the two the wrong way round?"
        )
    return score


def _fit(
    lesson: Lesson,
    config: DistillConfig,
    teachers: list[OpenTeacher],
    resume: ResumeFile,
    opened: ExitStack,
    judge: Judge,
    before: Score | None,
) -> Outcome:
    run, start, splits, preprocessing = lesson.run, lesson.start, lesson.splits, lesson.preprocessing
    fabric, prefix, module = run.fabric, "", start.module
    if config.features is not None:
        teacher = _looked_into(teachers[0])
        with seeded(seed_of(config.seed, "projections")):
            module, notes = tapped(
                start.module.to(fabric.device), teacher, config.layers, config.features, preprocessing.size
            )
        prefix = "student."
        for note in notes:
            run.progress.say(note)
    folder = Path()
    if config.view == "clean":
        folder = Path(fabric.broadcast(opened.enter_context(TemporaryDirectory(prefix="deploykit-"))))
    answers = answering(lesson, config, teachers, folder)
    training = Training(
        module,
        shared_batches(splits["train"], preprocessing, config, fabric),
        config,
        distill_step(answers, config),
        fabric,
        num_classes=len(splits["train"].classes),
        judge=judge,
        trained=before is not None,
        before=before,
        gain=config.gain,
        resume=resume,
        stop=run.stop,
        progress=run.progress,
        masks={prefix + name: mask for name, mask in (start.masks or {}).items()},
        announce=answers.announce,
    )
    try:
        outcome = fit(training)
    except Diverged as error:
        error.kept = None if error.kept is None else plain(error.kept, prefix)
        raise
    return plain(outcome, prefix)


def _looked_into(teacher: OpenTeacher) -> nn.Module:
    return network_of(teacher, "layers", "Name its model file, or leave --features out.")


def _counted(start: Start, preprocessing: Preprocessing) -> dict[str, int]:
    counts = count(start.module, preprocessing.size, preprocessing.channels)
    return {"macs": counts.macs, "params": counts.params}


def _judge(course: Course, teachers: float, progress: Progress) -> None:
    """Say what distillation did: ``teachers``: their top-1 on ``select``."""
    after = course.best_top1
    assert after is not None
    if course.best < 0:
        progress.warn(
            f"no epoch answers select better than the student as it came ({percent(after)}), which is kept: "
            "train longer, or on more images"
        )
    elif after > teachers:
        progress.say(f"the student is now better on select than its teachers ({percent(teachers)})")
