"""Teachers opened from their files: judged on ``select``, their classes mapped, ready to answer the student's batches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploykit.base.artifact import Parent, artifact_sha256
from deploykit.base.config.distill import DistillConfig
from deploykit.base.environment import library_versions
from deploykit.base.errors import BadInput
from deploykit.base.progress import SILENT, Progress
from deploykit.base.runner import fed_batch
from deploykit.base.targets import Spec
from deploykit.base.user_cache import TEACHERS, usable_folder

if TYPE_CHECKING:
    import numpy as np
    from lightning_fabric import Fabric
    from torch import nn

    from deploykit.base.preprocessing import Preprocessing
    from deploykit.base.runner import Runner
    from deploykit.data import DataSource, Split
    from deploykit.distillation.teachers import Teacher, Teachers

LIBRARIES = ("torch", "onnxruntime", "onnxruntime-gpu")


@dataclass
class OpenTeacher:
    """One teacher.

    Attributes:
        spec: how it was named, its target filled in.
        sha256: of its file.
        runner: its engine.
        preprocessing: of its input.
        order: int64 ``[C]``, its output for each class of the data, or None where they are the same.
        logits: float32 ``[pictures of select, C]``, in the order of the data's classes.
        top1: of these, 0…1.
        weight: in the ensemble, or None.
    """

    spec: Spec
    sha256: str
    runner: Runner
    preprocessing: Preprocessing
    order: np.ndarray | None
    logits: np.ndarray
    top1: float
    weight: float | None = field(default=None)

    @property
    def module(self) -> nn.Module | None:
        """The network where it is one of PyTorch that can be run on the student's device; None for other engines."""
        loaded = getattr(self.runner, "loaded", None)
        if loaded is None or loaded.program is not None or self.spec.target != "torch-eager":
            return None
        return loaded.module

    def parent(self, folder: Path) -> Parent:
        """As an artifact in ``folder`` states it."""
        return Parent("teacher", self.sha256, os.path.relpath(self.spec.path, folder), self.spec.name)

    def answer(self, x: np.ndarray) -> np.ndarray:
        """Logits ``[N, C]`` in the order of the data's classes, for its own input."""
        import numpy as np

        from deploykit.commands.logits import rows_of

        fixed = fed_batch(self.runner, len(x))
        step = fixed or len(x)
        rows = np.concatenate([rows_of(self.runner, x[at : at + step], fixed) for at in range(0, len(x), step)])
        return rows if self.order is None else np.ascontiguousarray(rows[:, self.order])


def open_teachers(
    config: DistillConfig,
    data: DataSource,
    device: str,
    opened: ExitStack,
    progress: Progress = SILENT,
    *,
    student: Path | None = None,
) -> list[OpenTeacher]:
    """Open every teacher of ``config`` and judge it on ``select``.

    Args:
        config: ``teachers``, ``combine``, ``batch`` and ``threads`` of it.
        data: with the classes that count.
        device: of the student.
        opened: closes the engines.
        progress: hears how classes were mapped and how good each is.
        student: its file, whose architecture a teacher's bare tensors are taken to have where they fit several.

    Raises:
        BadInput: a file is missing or is no classifier, classes do not fit, or the same teacher is named twice.
        Unavailable: this machine lacks its engine.
    """
    from deploykit.base.environment import cores
    from deploykit.commands.logits import collect_logits, preprocessing_of
    from deploykit.data import map_classes
    from deploykit.engines.choose import resolve
    from deploykit.training.threads import fixed_threads

    select = data.split("select")
    fixed = fixed_threads(config.threads)
    found: list[OpenTeacher] = []
    for text in config.teachers:
        spec = resolve(text, device)
        sha256 = artifact_sha256(spec.path)
        if any((one.sha256, one.spec.target) == (sha256, spec.target) for one in found):
            raise BadInput(f"the teacher {spec.path} is named twice", fix="Name each teacher once.")
        threads = None if str(spec.target).startswith("torch") else (fixed.count if fixed else cores())
        with _backends_as_they_were():
            size = None if config.view == "clean" or _says_its_size(spec) else config.size
            spec, runner = _run(spec, threads, device, size, config.allow_code, student, progress)
        opened.enter_context(runner)
        preprocessing = preprocessing_of(runner, data, size, spec.name, progress)
        logits = collect_logits(
            runner, select, config.batch, progress=progress, name=f"teacher {spec.name}", preprocessing=preprocessing
        )
        order, _ = map_classes(runner.classes, data.classes)
        top1 = float((logits.argmax(axis=1) == select.labels).mean())
        progress.say(f"teacher {spec.name}: top-1 {100 * top1:.2f} % on {len(select)} select pictures")
        found.append(OpenTeacher(spec, sha256, runner, preprocessing, order, logits, top1))
    _weigh(found, config, select, progress)
    return found


def _run(
    spec: Spec,
    threads: int | None,
    device: str,
    size: int | None,
    allow_code: bool,
    student: Path | None,
    progress: Progress,
) -> tuple[Spec, Runner]:
    from deploykit.engines import open_runner

    try:
        return spec, open_runner(spec, threads=threads, device=device, size=size, allow_code=allow_code)
    except BadInput:
        likely = None if student is None or "arch" in spec.options else _arch_of(student)
        if likely is None or spec.target != "torch-eager":
            raise
        named = replace(spec, options={**spec.options, "arch": likely})
        try:
            runner = open_runner(named, threads=threads, device=device, size=size, allow_code=allow_code)
        except BadInput:
            runner = None
        if runner is None:
            raise
        progress.say(f"teacher {spec.name}: its tensors are taken as {likely}, the student's architecture")
        return named, runner


def _says_its_size(spec: Spec) -> bool:
    """Whether the file states what it was trained on: engines do, and deploykit's model files; bare tensors do not."""
    from deploykit.base.checkpoint import is_model_file, read_tensors

    return (
        not str(spec.target).startswith("torch") or spec.path.suffix == ".pt2" or is_model_file(read_tensors(spec.path))
    )


def _arch_of(student: Path) -> str | None:
    """The architecture that a file of deploykit's states, before pruning; None of other files."""
    from deploykit.base.checkpoint import is_model_file, parse_model_file, read_tensors
    from deploykit.zoo import arch_text

    content = read_tensors(student)
    return arch_text(parse_model_file(content, student).arch) if is_model_file(content) else None


@contextmanager
def _backends_as_they_were() -> Iterator[None]:
    """A runner sets PyTorch up for exact comparison (no TF32, no search for algorithms); training sets it up itself."""
    import torch

    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic, matmul.allow_tf32
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic, matmul.allow_tf32 = before


def _weigh(teachers: list[OpenTeacher], config: DistillConfig, select: Split, progress: Progress) -> None:
    from deploykit.distillation.ensemble import weights_by_select

    if config.combine == "weighted" and len(teachers) > 1:
        weights = weights_by_select([teacher.logits for teacher in teachers], select.labels)
        for teacher, weight in zip(teachers, weights, strict=True):
            teacher.weight = weight
        shown = ", ".join(f"{teacher.spec.name} {teacher.weight:.3f}" for teacher in teachers)
        progress.say(f"weights by the likelihood of select: {shown}")


def network_of(teacher: OpenTeacher, what: str, fix: str) -> nn.Module:
    """The teacher's network, for what needs to look into it.

    Raises:
        BadInput: its engine shows none.
    """
    if teacher.module is None:
        raise BadInput(
            f"{what} of the teacher {teacher.spec.name} cannot be looked into",
            got=teacher.spec.target,
            expected="a model file (.pt) on torch-eager",
            fix=fix,
        )
    return teacher.module


def top1_together(teachers: list[OpenTeacher], config: DistillConfig, labels: np.ndarray) -> float:
    """The top-1 on ``select`` of the teachers combined as ``config`` says."""
    import torch

    from deploykit.distillation.ensemble import as_one

    logits = [torch.from_numpy(teacher.logits) for teacher in teachers]
    weights = [teacher.weight or 0.0 for teacher in teachers]
    one = as_one(logits, config.at_temperature, config.combine, weights)
    return float((one.argmax(dim=1).numpy() == labels).mean())


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

    Args:
        teachers: of :func:`open_teachers`.
        config: view, combination, layers, cache.
        train: what is learned from.
        preprocessing: of the student.
        fabric: of the run.
        folder: for answers that are not kept longer than the run.
        progress: says where they cannot be kept.

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
    from deploykit.distillation.kept import worth_keeping

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

    from deploykit.distillation.kept import RememberedTeacher
    from deploykit.distillation.matching import pairs_of
    from deploykit.distillation.teachers import ModuleTeacher, RunnerTeacher
    from deploykit.distillation.views import view_of

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
    from deploykit.distillation.kept import kept, prepared
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


def _identity(teacher: OpenTeacher, train: Split) -> dict[str, Any]:
    return {
        "teacher": teacher.sha256,
        "target": teacher.spec.target,
        "options": dict(teacher.spec.options),
        "preprocessing": teacher.preprocessing.to_dict(),
        "data": train.sha256,
        "classes": list(train.classes),
        "versions": library_versions(LIBRARIES),
    }


def named_teachers(config: DistillConfig) -> list[str]:
    """The teachers as artifacts state them: files by their names, since artifacts hold no paths."""
    from deploykit.base.targets import parse_spec

    return [str(replace(spec, path=Path(spec.path.name))) for spec in map(parse_spec, config.teachers)]
