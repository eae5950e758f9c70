"""Teachers as the student's step asks them: live on its batches, or by what they answered before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deploykit.base.environment import library_versions
from deploykit.base.user_cache import TEACHERS, usable_folder
from deploykit.config.distill import DistillConfig
from deploykit.data import Split
from deploykit.distillation.cache import RememberedTeacher, kept, prepared, worth_keeping
from deploykit.distillation.distillation_step import view_of
from deploykit.distillation.features import pairs_of
from deploykit.distillation.open_teachers import OpenTeacher
from deploykit.distillation.teachers import ModuleTeacher, PreparedTeacher, RunnerTeacher, Teacher, Teachers
from deploykit.training.model_file import Lesson

LIBRARIES = ("torch", "onnxruntime", "onnxruntime-gpu")


def answering(lesson: Lesson, config: DistillConfig, teachers: list[OpenTeacher], folder: Path) -> Teachers:
    """The teachers as the student's step asks them, the layers of the first one looked into where they are matched.

    ``teachers``: judged. ``folder``: for answers that are not kept longer than the run.

    Raises:
        BadInput: the same view does not exist.
    """
    weights = [teacher.weight or 0.0 for teacher in teachers]
    cache = _cache(lesson, config)
    ready = [
        _clean(teacher, lesson, config, cache, folder)
        if config.view == "clean"
        else _live(teacher, lesson, config, cache, layers=number == 0)
        for number, teacher in enumerate(teachers)
    ]
    return Teachers(ready, config.at_temperature, config.combine, weights)


def _cache(lesson: Lesson, config: DistillConfig) -> Path | None:
    """Where answers are kept for later runs; None where they are not."""
    train, fabric = lesson.splits["train"], lesson.run.fabric
    mixed = config.augment.mixup > 0 or config.augment.cutmix > 0
    alike = config.view == "clean" or not (mixed or fabric.world_size > 1)
    keeps = config.cache and alike and worth_keeping(len(train), len(train.classes))
    return usable_folder(TEACHERS, lesson.run.progress) if keeps else None


def _live(teacher: OpenTeacher, lesson: Lesson, config: DistillConfig, cache: Path | None, *, layers: bool) -> Teacher:
    train, preprocessing, fabric = lesson.splits["train"], lesson.preprocessing, lesson.run.fabric
    view = view_of(preprocessing, teacher.preprocessing, f"the teacher {teacher.spec.name}")
    names = [its for _, its in pairs_of(config.layers)] if layers and config.features else []
    live: Teacher
    if teacher.module is not None:
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        module: Any = teacher.module
        module = module.to(device=fabric.device, memory_format=layout)
        live = ModuleTeacher(module, view, teacher.order, names, fabric.autocast)
    else:
        live = RunnerTeacher(teacher.answer, view)
    if cache is None or names:
        return live
    identity = {
        **_identity(teacher, train),
        "student": preprocessing.to_dict(),
        "augment": config.augment.plain(),
        "seed": config.seed,
        "batch": config.batch,
        "device": fabric.device.type,
        "precision": config.precision,
    }
    return RememberedTeacher(live, cache, identity, (len(train), len(train.classes)), lesson.run.progress)


def _clean(teacher: OpenTeacher, lesson: Lesson, config: DistillConfig, cache: Path | None, folder: Path) -> Teacher:
    """Answers to the pictures as they are; one process of a machine makes them, the others wait and read."""
    train, fabric, progress = lesson.splits["train"], lesson.run.fabric, lesson.run.progress
    shape = (len(train), len(train.classes))
    identity = {**_identity(teacher, train), "device": fabric.device.type}

    def answers() -> Iterator[np.ndarray]:
        with progress.task(f"teacher {teacher.spec.name}: answers", total=len(train), unit="images") as task:
            for x, _ in train.batches(config.batch, teacher.preprocessing):
                yield teacher.answer(x)
                task.advance(len(x))

    def rows() -> np.ndarray:
        if cache is None:
            return prepared(folder, identity, shape, answers)
        return kept(cache, identity, shape, answers, progress)

    made = rows() if int(os.environ.get("LOCAL_RANK", "0")) == 0 else None
    fabric.barrier()
    return PreparedTeacher(rows() if made is None else made)


def _identity(teacher: OpenTeacher, train: Split) -> dict[str, object]:
    return {
        "teacher": teacher.sha256,
        "target": teacher.spec.target,
        "options": dict(teacher.spec.options),
        "preprocessing": teacher.preprocessing.to_dict(),
        "data": train.sha256,
        "classes": list(train.classes),
        "versions": library_versions(LIBRARIES),
    }
