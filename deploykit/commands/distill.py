"""``deploykit distill``: a student and its teachers → a model file that answers more as they do."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from deploykit.base.artifact import Made, Manifest
from deploykit.base.environment import chosen_device
from deploykit.base.errors import BadInput
from deploykit.base.progress import SILENT, Progress
from deploykit.base.spec import parse_spec
from deploykit.commands.stage import (
    Opener,
    Planned,
    Stage,
    data_parents,
    file_parent,
    make_artifact,
    opener,
    output_path,
    recorded,
)
from deploykit.config.distill import DistillConfig
from deploykit.config.keywords import by_keywords
from deploykit.reporting.format import percent
from deploykit.training.signals import Stop

STAGE = Stage("distill", 2, ("torch", "torchvision", "timm", "onnxruntime", "onnxruntime-gpu"))


@dataclass(frozen=True)
class DistillResult(Made):
    """What a distillation made.

    Attributes:
        output: the model file.
        made: False where the identical file was there already.
        facts: those of a training run (top1_select, epochs, …), and top1_select_before (of the student as it came; None
            where it is trained from scratch), teachers (name, target, top1_select, weight), top1_select_teachers (of all
            as one), student (arch, macs, params, and macs_of_teacher where ``auto`` chose it).
        measured: seconds, images_per_s.
    """

    def summary(self) -> str:
        """For people."""
        if not self.made:
            return f"{self.output} is up to date: same student, teachers, data, options and versions; nothing done"
        facts = self.facts
        before = facts["top1_select_before"]
        came = "from scratch" if before is None else f"{percent(before)} as it came"
        noun = "teacher" if len(facts["teachers"]) == 1 else f"{len(facts['teachers'])} teachers"
        return (
            f"{self.output}: top-1 {percent(facts['top1_select'])} on {facts['select_images']} select pictures "
            f"({came}; {noun} {percent(facts['top1_select_teachers'])}), epoch {facts['best_epoch']} of "
            f"{facts['epochs']}, {self.measured['seconds']:.1f} s, {self.measured['images_per_s']:.0f} images/s"
        )


@by_keywords(DistillConfig, modules=("model",))
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
    from deploykit.distillation.distill_student import distill_student, start_student
    from deploykit.distillation.open_teachers import open_teachers
    from deploykit.training.distributed import agreed, leave, open_fabric, rank_from_environment
    from deploykit.training.model_file import Run

    if config is None:
        raise BadInput("nothing to learn from", expected="a DistillConfig with teachers and data")
    if model is None and config.arch is None:
        raise BadInput("no student", expected="a model file, or --arch", fix="Try --arch auto.")
    if model is not None and Path(model).suffix.lower() in (".onnx", ".pt2"):
        raise BadInput(f"{model} cannot be trained", expected="the model file that it was exported from (.pt)")
    leads = rank_from_environment() == 0
    progress = progress if leads else SILENT
    source = None if model is None else Path(model)
    default = Path("student.pt") if source is None else source.with_name(f"{source.stem}.distilled.pt")
    inputs = [*([] if source is None else [source]), *(parse_spec(text).path for text in config.teachers)]
    target = output_path(output, default, ".pt", *inputs)
    data = opener(config.data, allow_code=config.allow_code, skip_broken=config.skip_broken, progress=progress)
    stop = Stop()

    def plan() -> Planned:
        data().need_labels("distillation")
        fabric = open_fabric(config)
        teachers = open_teachers(config, data(), fabric.device.type, opened, progress, student=source)
        student = start_student(source, config, data(), teachers, progress)
        manifest = planned(source, target, config, data)

        def make() -> Manifest:
            run = Run(target, manifest, fabric, stop, force, progress)
            described = distill_student(run, config, data(), student, teachers, opened)
            leave(fabric)
            return described

        return Planned(manifest, make, partial(agreed, fabric=fabric))

    with stop.listening(), ExitStack() as opened:
        manifest, made = make_artifact(target, plan, force=force, progress=progress, leads=leads)
    return DistillResult(target, made, manifest.facts, manifest.measured)


def planned(source: Path | None, target: Path, config: DistillConfig, data: Opener) -> Manifest:
    """The manifest of the model file ``target`` of the student ``source`` before it is made."""
    parents = data_parents(config.data, data(), "train", "select", "test")
    if source is not None:
        parents.append(replace(file_parent(source, target), name=source.name))
    specs = [parse_spec(text) for text in config.teachers]
    parents += [replace(file_parent(spec.path, target, "teacher"), name=spec.name) for spec in specs]
    named = [str(replace(spec, path=Path(spec.path.name))) for spec in specs]
    # where answers are kept changes no result
    return STAGE.manifest(
        "model",
        recorded(config, "cache", teachers=named),
        parents,
        precision="fp32",
        hardware={"device": chosen_device(config.device)},
    )
