"""``deploykit train``: data and a network's name → a trained model file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploykit.base.artifact import (
    Manifest,
    Parent,
    already_made,
    files_of,
    portable_data_name,
    read_manifest,
    write_manifest,
)
from deploykit.base.config.train import TrainConfig
from deploykit.base.environment import library_versions
from deploykit.base.errors import BadInput
from deploykit.base.lock import alone_with
from deploykit.base.progress import SILENT, Progress

if TYPE_CHECKING:
    import numpy as np
    from lightning_fabric import Fabric

    from deploykit.base.preprocessing import Preprocessing
    from deploykit.data import DataSource, Split
    from deploykit.training.course import Course, Outcome
    from deploykit.training.resume import ResumeFile
    from deploykit.training.signals import Stop
    from deploykit.training.start import Start

STAGE_VERSION = 1
LIBRARIES = ("torch", "torchvision", "timm")
SAMPLES = 32
READERS = 4


@dataclass(frozen=True)
class TrainResult:
    """What a training run made.

    Attributes:
        output: the model file.
        made: False where the identical file was there already.
        facts: top1_select (0…1, None where there are no ``select`` pictures), top1_select_last, select_images, epochs,
            best_epoch (from 1), seconds, images_per_s, threads, device, processes.
    """

    output: Path
    made: bool
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The object of ``--json``."""
        return {"output": str(self.output), "made": self.made, **self.facts}

    def summary(self) -> str:
        """For people."""
        if not self.made:
            return f"{self.output} is up to date: same data, options and versions; nothing done"
        facts = self.facts
        quality = "no select pictures to judge it by"
        if facts["top1_select"] is not None:
            quality = f"top-1 {100 * facts['top1_select']:.2f} % on {facts['select_images']} select pictures"
        noun = "thread" if facts["threads"] == 1 else "threads"
        return (
            f"{self.output}: {quality} (epoch {facts['best_epoch']} of {facts['epochs']}), "
            f"{facts['seconds']:.1f} s, {facts['images_per_s']:.0f} images/s, {facts['device']}, "
            f"{facts['threads']} {noun}"
        )


def train(
    output: Path | str | None,
    config: TrainConfig,
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> TrainResult:
    """Train or fine-tune a classifier.

    The weights of the epoch that is best on ``select`` are kept, of equals the last. An interrupted run goes on where it
    stopped when it is started again with the same arguments. Of two runs of one output the second waits for the first.

    Args:
        output: the model file; default ``model.pt`` in the current folder.
        config: data, network and how.
        force: replace an output that is not ours.
        progress: where it shows.

    Raises:
        BadInput: data, network or start file do not fit together or cannot be read; the output may not be replaced.
        AnswerNo: the loss became NaN; the best epoch before is kept as ``model.best.pt``.
        Unavailable: no GPU, no timm, no download.
        SystemTrouble: the disk is full; the state of the last finished epoch is kept.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the state is kept.
    """
    from deploykit.training.processes import open_fabric, rank_from_environment
    from deploykit.training.signals import Stop

    if rank_from_environment() != 0:
        progress = SILENT
    target = Path(output) if output is not None else Path("model.pt")
    if target.suffix != ".pt":
        raise BadInput("the output's name", got=target.name, expected="a name that ends with .pt")
    already_made(target, "", force=force)  # refuses what may not be replaced before any work
    leader = rank_from_environment() == 0
    with alone_with(target, progress) if leader else nullcontext(), Stop().listening() as stop:
        fabric = open_fabric(config)
        if fabric.world_size > 1:
            progress.say(f"{fabric.world_size} processes on {fabric.device.type}, {config.batch} images a step in all")
        return _train(target, config, fabric, stop, force, progress)


def _train(
    target: Path, config: TrainConfig, fabric: Fabric, stop: Stop, force: bool, progress: Progress
) -> TrainResult:
    from deploykit.data import open_data
    from deploykit.training.resume import ResumeFile
    from deploykit.training.start import start_network

    data = open_data(config.data, allow_code=config.allow_code, skip_broken=config.skip_broken, progress=progress)
    if len(data.classes) < 2:
        raise BadInput(f"{config.data} has one class", got=data.classes[0], expected="at least two")
    start = start_network(config, data.classes, progress)
    splits = {name: data.split(name) for name in ("train", "select", "test")}
    manifest = _manifest(config, start, splits, fabric.device.type)
    if fabric.broadcast(already_made(target, manifest.key, force=force)):
        made = read_manifest(target)
        assert made is not None
        return TrainResult(target, False, made.facts)
    preprocessing = _preprocessing(config, start, data)
    _check_forward(start, preprocessing, len(data.classes))
    resume = ResumeFile(target, manifest.key, manifest.config)
    resume.check_writable()
    with _kept_when_diverged(target, start, manifest, preprocessing, splits, resume, force):
        outcome = _fit(start, splits, preprocessing, config, fabric, resume, stop, progress)
    facts = _facts(outcome.course, len(splits["select"]), fabric)
    if fabric.global_rank == 0:
        _write(target, outcome, start, manifest, preprocessing, splits, facts)
        resume.remove()
    fabric.barrier()
    return TrainResult(target, True, facts)


def _fit(
    start: Start,
    splits: dict[str, Split],
    preprocessing: Preprocessing,
    config: TrainConfig,
    fabric: Fabric,
    resume: ResumeFile,
    stop: Stop,
    progress: Progress,
) -> Outcome:
    from deploykit.training.batches import Batches
    from deploykit.training.loop import fit
    from deploykit.training.steps import cross_entropy_step
    from deploykit.training.threads import cores
    from deploykit.training.validation import top1_on

    select = splits["select"]
    if config.early_stop is not None and len(select) == 0:
        raise BadInput("early_stop needs select pictures", got=f"{len(splits['train'])} pictures in all")
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
    return fit(
        start.module,
        batches,
        config,
        cross_entropy_step(config.label_smoothing),
        fabric=fabric,
        num_classes=len(select.classes),
        validate=top1_on(select, preprocessing, config.batch, fabric),
        resume=resume,
        stop=stop,
        progress=progress,
    )


def _manifest(config: TrainConfig, start: Start, splits: dict[str, Split], device: str) -> Manifest:
    data = [
        Parent("data", split.sha256, name=f"{portable_data_name(config.data)} ({name})")
        for name, split in splits.items()
    ]
    return Manifest(
        kind="model",
        files={},
        stage="train",
        version=STAGE_VERSION,
        config=recorded(config),
        parents=(*data, *start.parents),
        precision="fp32",
        versions=library_versions(LIBRARIES),
        hardware={"device": device},
    )


def recorded(config: TrainConfig) -> dict[str, Any]:
    """The configuration as artifacts state it: files and folders by their names, since artifacts hold no paths."""
    fields = config.plain()
    fields["data"] = portable_data_name(config.data)
    if config.model.weights is not None:
        fields["model"]["weights"] = Path(config.model.weights).name
    return fields


def _preprocessing(config: TrainConfig, start: Start, data: DataSource) -> Preprocessing:
    """The start file's where it states one, else the data's; what the configuration says comes before both."""
    found = start.preprocessing
    if found is None:
        return data.preprocessing(config.size, config.mean, config.std)
    if config.size is not None and found.size != (config.size, config.size):
        found = replace(data.preprocessing(config.size), mean=found.mean, std=found.std)
    return replace(found, mean=config.mean or found.mean, std=config.std or found.std, embedded=False)


def _check_forward(start: Start, preprocessing: Preprocessing, classes: int) -> None:
    """Try the network on one blank picture.

    Raises:
        BadInput: it does not take pictures of this size, or does not give one logit per class.
    """
    import torch

    height, width = preprocessing.size
    start.module.eval()
    try:
        with torch.inference_mode():
            given = start.module(torch.zeros(1, 3, height, width))
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        raise BadInput(
            f"{start.arch} does not take pictures of {height}×{width} pixels: {str(error).splitlines()[0]}",
            fix="Choose another --size.",
        ) from error
    shape = list(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
    if shape != [1, classes]:
        raise BadInput(
            f"{start.arch} does not fit the data's {classes} classes",
            got=f"outputs of shape {shape}",
            expected=f"[1, {classes}]",
            fix="Use a classifier with one logit per class.",
        )


def _facts(course: Course, select_images: int, fabric: Fabric) -> dict[str, Any]:
    return {
        "top1_select": course.top1[course.best],
        "top1_select_last": course.top1[-1],
        "select_images": select_images,
        "loss_train": course.losses[course.best],
        "epochs": len(course.top1),
        "best_epoch": course.best + 1,
        "seconds": round(course.total_s, 3),
        "images_per_s": round(course.images / max(course.train_s, 1e-9), 1),
        "threads": course.threads,
        "device": fabric.device.type,
        "processes": fabric.world_size,
    }


def _write(
    target: Path,
    outcome: Outcome,
    start: Start,
    manifest: Manifest,
    preprocessing: Preprocessing,
    splits: dict[str, Split],
    facts: dict[str, Any],
) -> None:
    from deploykit.zoo import save_model

    classes = splits["train"].classes
    start.module.load_state_dict(outcome.tensors)
    parents = [{"role": p.role, "sha256": p.sha256, "name": p.name} for p in manifest.parents]
    entry = {"stage": "train", "config": manifest.config, "parents": parents, "result": facts}
    save_model(
        target,
        start.module,
        start.arch,
        preprocessing,
        classes,
        ema=outcome.ema,
        lineage=[*start.lineage, entry],
        samples=_samples(splits["test"], preprocessing),
    )
    write_manifest(
        target,
        replace(
            manifest,
            files=files_of(target),
            preprocessing=preprocessing.to_dict(),
            classes=tuple(classes),
            facts=facts,
        ),
    )


def _samples(test: Split, preprocessing: Preprocessing) -> dict[str, np.ndarray] | None:
    """Test pictures spread over the split, at the network's size: they let a lone file be verified on real input."""
    import numpy as np

    from deploykit.data import prepare

    if len(test) == 0:
        return None
    indices = np.unique(np.linspace(0, len(test) - 1, SAMPLES).round().astype(np.int64))
    images = prepare([test.image(int(i)) for i in indices], replace(preprocessing, embedded=True))
    return {"images": images, "labels": test.labels[indices]}


@contextmanager
def _kept_when_diverged(
    target: Path,
    start: Start,
    manifest: Manifest,
    preprocessing: Preprocessing,
    splits: dict[str, Split],
    resume: ResumeFile,
    force: bool,
) -> Iterator[None]:
    """Where the loss becomes NaN, keep the best epoch before it as ``model.best.pt`` and say so in the error.

    The state goes: to go on from it would end in the same way.
    """
    from deploykit.training.course import Diverged
    from deploykit.training.processes import rank_from_environment

    try:
        yield
    except Diverged as error:
        if rank_from_environment() != 0:
            raise
        resume.remove()
        if error.kept is not None:
            place = target.with_name(f"{target.stem}.best.pt")
            already_made(place, "", force=force)
            facts = {"diverged": error.what, "best_epoch": error.kept.course.best + 1}
            facts["top1_select"] = error.kept.course.top1[error.kept.course.best]
            _write(place, error.kept, start, manifest, preprocessing, splits, facts)
            error.what += f"; the weights of epoch {facts['best_epoch']} are kept in {place}"
            error.args = (error.line(),)
        raise
