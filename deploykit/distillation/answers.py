"""Teachers as the student's step asks them: live on its batches, or by what they answered before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.base.environment import library_versions
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import SILENT, Progress
from deploykit.base.user_cache import TEACHERS, usable_folder
from deploykit.config.distill import DistillConfig
from deploykit.distillation.open_teachers import OpenTeacher

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from deploykit.data import Split
    from deploykit.distillation.teachers import Teacher, Teachers

LIBRARIES = ("torch", "onnxruntime", "onnxruntime-gpu")


def answering(
    teachers: list[OpenTeacher],
    config: DistillConfig,
    train: Split,
    preprocessing: Preprocessing,
    fabric: Fabric,
    folder: Path,
    progress: Progress = SILENT,
) -> Teachers:
    """The teachers as the student's step asks them, the layers of the first one looked into where they are matched.

    ``teachers``: of :func:`deploykit.distillation.open_teachers.open_teachers`, judged. ``train``: what is learned
    from. ``folder``: for answers that are not kept longer than the run.

    Raises:
        BadInput: the same view does not exist.
    """
    from deploykit.distillation.teachers import Teachers

    weights = [teacher.weight or 0.0 for teacher in teachers]
    cache = _cache(config, train, fabric, progress)
    ready = [
        _clean(teacher, config, train, fabric, cache, folder, progress)
        if config.view == "clean"
        else _live(teacher, config, train, preprocessing, fabric, cache, progress, layers=number == 0)
        for number, teacher in enumerate(teachers)
    ]
    return Teachers(ready, config.at_temperature, config.combine, weights)


def _cache(config: DistillConfig, train: Split, fabric: Fabric, progress: Progress) -> Path | None:
    """Where answers are kept for later runs; None where they are not."""
    from deploykit.distillation.cache import worth_keeping

    mixed = config.augment.mixup > 0 or config.augment.cutmix > 0
    alike = config.view == "clean" or not (mixed or fabric.world_size > 1)
    keeps = config.cache and alike and worth_keeping(len(train), len(train.classes))
    return usable_folder(TEACHERS, progress) if keeps else None


def _live(
    teacher: OpenTeacher,
    config: DistillConfig,
    train: Split,
    preprocessing: Preprocessing,
    fabric: Fabric,
    cache: Path | None,
    progress: Progress,
    *,
    layers: bool,
) -> Teacher:
    import torch

    from deploykit.distillation.cache import RememberedTeacher
    from deploykit.distillation.distillation_step import view_of
    from deploykit.distillation.features import pairs_of
    from deploykit.distillation.teachers import ModuleTeacher, RunnerTeacher

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
    return RememberedTeacher(live, cache, identity, (len(train), len(train.classes)), progress)


def _clean(
    teacher: OpenTeacher,
    config: DistillConfig,
    train: Split,
    fabric: Fabric,
    cache: Path | None,
    folder: Path,
    progress: Progress,
) -> Teacher:
    """Answers to the pictures as they are; one process of a machine makes them, the others wait and read."""
    from deploykit.distillation.cache import kept, prepared
    from deploykit.distillation.teachers import PreparedTeacher

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
