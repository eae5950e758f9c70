"""Teachers opened from their files: judged on ``select``, their classes mapped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deploykit.base.artifact import artifact_sha256
from deploykit.base.checkpoint import is_model_file, parse_model_file, read_tensors
from deploykit.base.errors import BadInput
from deploykit.base.overrides import NOTHING_STATED, Stated
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import SILENT, Progress
from deploykit.base.runner import Runner, fed_batch
from deploykit.base.spec import Spec
from deploykit.base.targets import TORCH_EAGER, target_of
from deploykit.config.distill import DistillConfig
from deploykit.engines.open import resolve
from deploykit.evaluation.run_classifier import preprocessing_of, rows_of
from deploykit.reporting.format import percent

if TYPE_CHECKING:
    from torch import nn

    from deploykit.data import DataSource, Split


@dataclass
class OpenTeacher:
    """One teacher.

    ``spec``: how it was named, its target filled in. ``order``: int64 ``[C]``, its output for each class of the data,
    or None where they are the same. ``logits``: float32 ``[pictures of select, C]``, in the order of the data's
    classes; of :func:`judge_teachers`. ``top1``: of these, 0…1. ``weight``: in the ensemble, or None.
    """

    spec: Spec
    sha256: str
    runner: Runner
    preprocessing: Preprocessing
    order: np.ndarray | None
    logits: np.ndarray = field(init=False)
    top1: float = field(init=False)
    weight: float | None = field(default=None)

    @property
    def module(self) -> nn.Module | None:
        """The network where it is one of PyTorch that can be run on the student's device; None for other engines."""
        from deploykit.models import RunsModel

        if not isinstance(self.runner, RunsModel) or self.spec.target != TORCH_EAGER:
            return None
        return self.runner.loaded.module if self.runner.loaded.program is None else None

    def answer(self, x: np.ndarray) -> np.ndarray:
        """Logits ``[N, C]`` in the order of the data's classes, for its own input."""
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
    """Open every teacher of ``config``; none has answered yet.

    ``data``: with the classes that count. ``student``: its file, whose architecture a teacher's bare tensors are taken
    to have where they fit several.

    Raises:
        BadInput: a file is missing or is no classifier, classes do not fit, or the same teacher is named twice.
        Unavailable: this machine lacks its engine.
    """
    from deploykit.data import map_classes
    from deploykit.training.threads import threads_of

    threads = threads_of(config.threads).count
    found: list[OpenTeacher] = []
    for spec, sha256 in _resolved(config.teachers, device):
        with _backends_as_they_were():
            stated = NOTHING_STATED if config.view == "clean" or _says_its_size(spec) else config.stated
            named, runner = _run(
                spec, None if _runs_models(spec) else threads, device, stated, config.allow_code, student, progress
            )
        opened.enter_context(runner)
        preprocessing = preprocessing_of(runner, data.natural_size, stated, spec.name, progress)
        order, _ = map_classes(runner.classes, data.classes)
        found.append(OpenTeacher(named, sha256, runner, preprocessing, order))
    return found


def _resolved(texts: Sequence[str], device: str) -> list[tuple[Spec, str]]:
    """Every teacher with its target and the sha256 of its file, each once."""
    found: list[tuple[Spec, str]] = []
    for text in texts:
        spec = resolve(text, device)
        sha256 = artifact_sha256(spec.path)
        if any((other, one.target) == (sha256, spec.target) for one, other in found):
            raise BadInput(f"the teacher {spec.path} is named twice", fix="Name each teacher once.")
        found.append((spec, sha256))
    return found


def judge_teachers(
    teachers: list[OpenTeacher], config: DistillConfig, select: Split, progress: Progress = SILENT
) -> None:
    """Let every teacher answer ``select``, and weigh them where ``config`` says so.

    ``teachers``: of :func:`open_teachers`; their ``logits``, ``top1`` and ``weight`` are set. ``select``: the split
    that choices are made on.
    """
    from deploykit.evaluation.run_classifier import collect_logits

    for teacher in teachers:
        name = teacher.spec.name
        teacher.logits = collect_logits(
            teacher.runner,
            select,
            config.batch,
            progress=progress,
            name=f"teacher {name}",
            preprocessing=teacher.preprocessing,
        )
        teacher.top1 = float((teacher.logits.argmax(axis=1) == select.labels).mean())
        progress.say(f"teacher {name}: top-1 {percent(teacher.top1)} on {len(select)} select pictures")
    _weigh(teachers, config, select, progress)


def _run(
    spec: Spec,
    threads: int | None,
    device: str,
    stated: Stated,
    allow_code: bool,
    student: Path | None,
    progress: Progress,
) -> tuple[Spec, Runner]:
    from deploykit.engines import open_runner

    try:
        return spec, open_runner(spec, threads=threads, device=device, stated=stated, allow_code=allow_code)
    except BadInput:
        likely = None if student is None or "arch" in spec.options else _arch_of(student)
        if likely is None or spec.target != TORCH_EAGER:
            raise
        named = replace(spec, options={**spec.options, "arch": likely})
        try:
            runner = open_runner(named, threads=threads, device=device, stated=stated, allow_code=allow_code)
        except BadInput:
            runner = None
        if runner is None:
            raise
        progress.say(f"teacher {spec.name}: its tensors are taken as {likely}, the student's architecture")
        return named, runner


def _runs_models(spec: Spec) -> bool:
    assert spec.target is not None
    return target_of(spec.target).runs_models


def _says_its_size(spec: Spec) -> bool:
    """Whether the file states what it was trained on: engines do, and deploykit's model files; bare tensors do not."""
    return not _runs_models(spec) or spec.path.suffix == ".pt2" or is_model_file(read_tensors(spec.path))


def _arch_of(student: Path) -> str | None:
    """The architecture that a file of deploykit's states, before pruning; None of other files."""
    from deploykit.models import arch_text

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
            expected=f"a model file (.pt) on {TORCH_EAGER}",
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
