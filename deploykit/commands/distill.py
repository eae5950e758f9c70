"""``deploykit distill``: a student and its teachers → a model file that answers more as they do."""

from __future__ import annotations

import os
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from deploykit.base.artifact import (
    Made,
    Manifest,
    Parent,
    already_made,
    portable_data_name,
    read_manifest,
    refuse_input,
)
from deploykit.base.environment import library_versions
from deploykit.base.errors import BadInput
from deploykit.base.lock import alone_with
from deploykit.base.progress import SILENT, Progress
from deploykit.base.spec import parse_spec
from deploykit.config.distill import DistillConfig
from deploykit.config.keywords import by_keywords
from deploykit.distillation.answers import answering
from deploykit.distillation.open_teachers import (
    OpenTeacher,
    judge_teachers,
    named_teachers,
    network_of,
    open_teachers,
    top1_together,
)
from deploykit.training.model_file import check_forward, course_facts, kept_when_diverged, write_trained

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import nn

    from deploykit.base.preprocessing import Preprocessing
    from deploykit.data import DataSource, Split
    from deploykit.distillation.teachers import Teachers
    from deploykit.training.resume import Outcome, ResumeFile
    from deploykit.training.signals import Stop
    from deploykit.training.start_model import Start

STAGE_VERSION = 1
LIBRARIES = ("torch", "torchvision", "timm", "onnxruntime", "onnxruntime-gpu")
READERS = 4


@dataclass(frozen=True)
class DistillResult(Made):
    """What a distillation made.

    Attributes:
        output: the model file.
        made: False where the identical file was there already.
        facts: those of a training run (top1_select, epochs, …), and top1_select_before (of the student as it came; None
            where it is trained from scratch), teachers (name, target, top1_select, weight), top1_select_teachers (of all
            as one), student (arch, macs, params, and macs_of_teacher where ``auto`` chose it).
    """

    def summary(self) -> str:
        """For people."""
        if not self.made:
            return f"{self.output} is up to date: same student, teachers, data, options and versions; nothing done"
        facts = self.facts
        before = facts["top1_select_before"]
        came = "from scratch" if before is None else f"{100 * before:.2f} % as it came"
        noun = "teacher" if len(facts["teachers"]) == 1 else f"{len(facts['teachers'])} teachers"
        return (
            f"{self.output}: top-1 {100 * facts['top1_select']:.2f} % on {facts['select_images']} select pictures "
            f"({came}; {noun} {100 * facts['top1_select_teachers']:.2f} %), epoch {facts['best_epoch']} of "
            f"{facts['epochs']}, {facts['seconds']:.1f} s, {facts['images_per_s']:.0f} images/s"
        )


@by_keywords(DistillConfig)
def distill(
    model: Path | str | None = None,
    output: Path | str | None = None,
    config: DistillConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> DistillResult:
    """Train a student to answer as its teachers do.

    The weights of the epoch that is best on ``select`` are kept. An interrupted run goes on where it stopped when it is
    started again with the same arguments.

    Args:
        model: the student: a pruned network, or any other model file; None: ``config.arch`` says what is built.
        output: default: beside the student, ``model.distilled.pt``; without one ``student.pt``.
        config: teachers, data and how.
        force: replace an output that is not ours.
        progress: where it shows.

    Raises:
        BadInput: student, teachers and data do not fit together or cannot be read; the output may not be replaced.
        AnswerNo: the loss became NaN; the best epoch before is kept as ``model.distilled.best.pt``.
        Unavailable: no GPU, or no engine for a teacher.
        SystemTrouble: the disk is full; the state of the last finished epoch is kept.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the state is kept.
    """
    from deploykit.training.distributed import leave, open_fabric, rank_from_environment
    from deploykit.training.signals import Stop

    if config is None:
        raise BadInput("nothing to learn from", expected="a DistillConfig with teachers and data")
    if model is None and config.arch is None:
        raise BadInput("no student", expected="a model file, or --arch", fix="Try --arch auto.")
    if model is not None and Path(model).suffix.lower() in (".onnx", ".pt2"):
        raise BadInput(f"{model} cannot be trained", expected="the model file that it was exported from (.pt)")
    if rank_from_environment() != 0:
        progress = SILENT
    student = None if model is None else Path(model)
    target = _target(student, output)
    teachers = [parse_spec(text).path for text in config.teachers]
    refuse_input(target, *([] if student is None else [student]), *teachers)
    already_made(target, "", force=force)  # refuses what may not be replaced before any work
    leader = rank_from_environment() == 0
    with alone_with(target, progress) if leader else nullcontext(), Stop().listening() as stop, ExitStack() as opened:
        fabric = open_fabric(config)
        work = _Work(student, target, config, fabric, stop, force, progress, opened)
        result = work.distilled()
        leave(fabric)
        return result


def _target(student: Path | None, output: Path | str | None) -> Path:
    if output is None:
        return Path("student.pt") if student is None else student.with_name(f"{student.stem}.distilled.pt")
    target = Path(output)
    if target.suffix != ".pt":
        raise BadInput("the output's name", got=target.name, expected="a name that ends with .pt")
    return target


@dataclass
class _Work:
    student: Path | None
    target: Path
    config: DistillConfig
    fabric: Fabric
    stop: Stop
    force: bool
    progress: Progress
    opened: ExitStack

    def distilled(self) -> DistillResult:
        from deploykit.data import open_data
        from deploykit.distillation.features import check_pairs
        from deploykit.training.resume import ResumeFile

        config, target, progress = self.config, self.target, self.progress
        data = open_data(config.data, allow_code=config.allow_code, skip_broken=config.skip_broken, progress=progress)
        teachers = open_teachers(config, data, self.fabric.device.type, self.opened, progress, student=self.student)
        start, student_facts = self._start(data, teachers)
        splits = {name: data.split(name) for name in ("train", "select", "test")}
        manifest = self._manifest(start, teachers, splits)
        if self.fabric.broadcast(already_made(target, manifest.key, force=self.force)):
            made = read_manifest(target)
            assert made is not None
            return DistillResult(target, False, made.facts)
        preprocessing = self._preprocessing(start, teachers, data)
        check_forward(start, preprocessing, len(data.classes))
        if config.features is not None:
            check_pairs(start.module, _looked_into(teachers[0]), config.layers)
        resume = ResumeFile(target, manifest.key, manifest.config)
        resume.check_writable()
        judge_teachers(teachers, config, splits["select"], progress)
        facts = {
            **_told(teachers, config, splits["select"]),
            "student": {**student_facts, **_counted(start, preprocessing)},
            "top1_select_before": self._before(start, teachers, splits["select"], preprocessing),
        }
        with kept_when_diverged(target, start, manifest, preprocessing, splits, resume, self.force):
            outcome = self._fit(start, teachers, splits, preprocessing, resume)
        facts = {**course_facts(outcome.course, len(splits["select"]), self.fabric), **facts}
        _judge(facts, progress)
        if self.fabric.global_rank == 0:
            write_trained(target, outcome, start, manifest, preprocessing, splits, facts, force=self.force)
            resume.remove()
        return DistillResult(target, True, facts)

    def _start(self, data: DataSource, teachers: list[OpenTeacher]) -> tuple[Start, dict[str, Any]]:
        """The student, and what ``auto`` chose."""
        from deploykit.config.train import ModelConfig, TrainConfig
        from deploykit.models import arch_text
        from deploykit.training.start_model import start_network

        config, facts = self.config, dict[str, Any]()
        arch = config.arch
        if self.student is None and arch == "auto":
            arch, facts = self._auto(teachers[0])
        elif arch == "auto":
            raise BadInput("both a student file and --arch auto are given", fix="Leave one of them out.")
        weights = None if self.student is None else str(self.student)
        wanted = TrainConfig(
            model=ModelConfig(arch=arch, weights=weights),
            data=config.data,
            size=config.size,
            seed=config.seed,
            allow_code=config.allow_code,
        )
        start = start_network(wanted, data.classes, self.progress, new_head=False)
        if self.student is not None:
            path = os.path.relpath(self.student, self.target.parent)
            start.parents = [replace(parent, path=path) for parent in start.parents]
        return start, {"arch": arch_text(start.arch), **facts}

    def _auto(self, teacher: OpenTeacher) -> tuple[str, dict[str, Any]]:
        from deploykit.distillation.student import scaled_down
        from deploykit.models import arch_text, count

        network = network_of(teacher, "the family", "Name the student with --arch SOURCE:NAME.")
        size = (self.config.size, self.config.size) if self.config.size else teacher.preprocessing.size
        loaded: Any = teacher.runner
        macs = count(network, size).macs
        chosen = scaled_down(loaded.loaded.arch, macs, size, self.config.auto_macs)
        name = arch_text(chosen.arch)
        self.progress.say(
            f"student: {name}, {chosen.macs / 1e6:.2f} million MACs, {chosen.macs / macs:.2f} of the teacher's"
        )
        return name, {"macs_of_teacher": macs}

    def _preprocessing(self, start: Start, teachers: list[OpenTeacher], data: DataSource) -> Preprocessing:
        """That of the student's file, else the first teacher's; the size asked for comes before both."""
        size = self.config.size
        found = replace(start.preprocessing or teachers[0].preprocessing, embedded=False)
        if size is not None and found.size != (size, size):
            return replace(data.preprocessing(size), mean=found.mean, std=found.std)
        return found

    def _before(
        self, start: Start, teachers: list[OpenTeacher], select: Split, preprocessing: Preprocessing
    ) -> float | None:
        """The student's top-1 on ``select`` as it came, None from scratch; one that needs no teacher is told of."""
        from deploykit.training.step import top1_on

        if self.student is None:
            return None
        module = start.module.to(self.fabric.device)
        top1 = top1_on(select, preprocessing, self.config.batch, self.fabric)(module)
        assert top1 is not None
        self.progress.say(f"student: top-1 {100 * top1:.2f} % on select as it came")
        best = max(teachers, key=lambda teacher: teacher.top1)
        if top1 > best.top1:
            self.progress.warn(
                f"the student is better on select than its teacher {best.spec.name} ({100 * top1:.2f} % and "
                f"{100 * best.top1:.2f} %): it may learn to answer worse; are the two the wrong way round?"
            )
        return top1

    def _fit(
        self,
        start: Start,
        teachers: list[OpenTeacher],
        splits: dict[str, Split],
        preprocessing: Preprocessing,
        resume: ResumeFile,
    ) -> Outcome:
        from deploykit.base.environment import cores
        from deploykit.distillation.distillation_step import distill_step
        from deploykit.distillation.features import plain, tapped
        from deploykit.training.augment import seeded
        from deploykit.training.batches import Batches
        from deploykit.training.loop import fit
        from deploykit.training.randomness import seed_of
        from deploykit.training.resume import Diverged
        from deploykit.training.step import top1_on

        config, fabric, prefix = self.config, self.fabric, ""
        module = start.module
        if config.features is not None:
            teacher = _looked_into(teachers[0])
            with seeded(seed_of(config.seed, "projections")):
                module, notes = tapped(
                    start.module.to(fabric.device), teacher, config.layers, config.features, preprocessing.size
                )
            prefix = "student."
            for note in notes:
                self.progress.say(note)
        answers = self._answers(teachers, splits["train"], preprocessing)
        batches = Batches(
            splits["train"],
            preprocessing,
            config.batch,
            seed=config.seed,
            crop=config.augment.crop,
            rank=fabric.global_rank,
            world=fabric.world_size,
            readers=READERS if cores() > 2 else 1,
        )
        try:
            outcome = fit(
                module,
                batches,
                config,
                distill_step(answers, config),
                fabric=fabric,
                num_classes=len(splits["train"].classes),
                validate=top1_on(splits["select"], preprocessing, config.batch, fabric),
                resume=resume,
                stop=self.stop,
                progress=self.progress,
                masks={prefix + name: mask for name, mask in (start.masks or {}).items()},
                announce=answers.announce,
            )
        except Diverged as error:
            error.kept = None if error.kept is None else plain(error.kept, prefix)
            raise
        return plain(outcome, prefix)

    def _answers(self, teachers: list[OpenTeacher], train: Split, preprocessing: Preprocessing) -> Teachers:
        folder = Path()
        if self.config.view == "clean":
            made = self.opened.enter_context(TemporaryDirectory(prefix="deploykit-"))
            folder = Path(self.fabric.broadcast(made))
        return answering(teachers, self.config, train, preprocessing, self.fabric, folder, self.progress)

    def _manifest(self, start: Start, teachers: list[OpenTeacher], splits: dict[str, Split]) -> Manifest:
        data = [
            Parent("data", split.sha256, name=f"{portable_data_name(self.config.data)} ({name})")
            for name, split in splits.items()
        ]
        taught = [teacher.parent(self.target.parent) for teacher in teachers]
        return Manifest(
            kind="model",
            files={},
            stage="distill",
            version=STAGE_VERSION,
            config=recorded(self.config),
            parents=(*data, *start.parents, *taught),
            precision="fp32",
            versions=library_versions(LIBRARIES),
            hardware={"device": self.fabric.device.type},
        )


def _looked_into(teacher: OpenTeacher) -> nn.Module:
    return network_of(teacher, "layers", "Name its model file, or leave --features out.")


def recorded(config: DistillConfig) -> dict[str, Any]:
    """The configuration as artifacts state it: files by their names; where answers are kept changes no result."""
    fields = config.plain()
    fields.pop("cache")
    return {**fields, "data": portable_data_name(config.data), "teachers": named_teachers(config)}


def _told(teachers: list[OpenTeacher], config: DistillConfig, select: Split) -> dict[str, Any]:
    told = [
        {"name": one.spec.name, "target": one.spec.target, "top1_select": one.top1, "weight": one.weight}
        for one in teachers
    ]
    return {"teachers": told, "top1_select_teachers": top1_together(teachers, config, select.labels)}


def _counted(start: Start, preprocessing: Preprocessing) -> dict[str, int]:
    from deploykit.models import count

    counts = count(start.module, preprocessing.size)
    return {"macs": counts.macs, "params": counts.params}


def _judge(facts: dict[str, Any], progress: Progress) -> None:
    """Say where distillation did not do what it is for."""
    before, after, teachers = facts["top1_select_before"], facts["top1_select"], facts["top1_select_teachers"]
    if before is not None and after < before:
        progress.warn(
            f"the student answers select worse than before ({100 * before:.2f} → {100 * after:.2f} %): "
            "lower --lr, or train longer"
        )
    elif after > teachers:
        progress.say(f"the student is now better on select than its teachers ({100 * teachers:.2f} %)")
