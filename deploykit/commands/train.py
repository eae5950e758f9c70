"""``deploykit train``: data and a network's name → a trained model file."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
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
from deploykit.config.keywords import by_keywords
from deploykit.config.train import TrainConfig
from deploykit.training.model_file import check_forward, course_facts, kept_when_diverged, write_trained

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from deploykit.base.preprocessing import Preprocessing
    from deploykit.data import DataSource, Split
    from deploykit.training.resume import Outcome, ResumeFile
    from deploykit.training.signals import Stop
    from deploykit.training.start_model import Start
    from deploykit.training.step import Step

STAGE_VERSION = 1
LIBRARIES = ("torch", "torchvision", "timm")
READERS = 4


@dataclass(frozen=True)
class TrainResult(Made):
    """What a training run made.

    Attributes:
        output: the model file.
        made: False where the identical file was there already.
        facts: top1_select (0…1, None where there are no ``select`` pictures), top1_select_last, select_images, epochs,
            best_epoch (from 1), seconds, images_per_s, threads, device, processes.
    """

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


@by_keywords(TrainConfig)
def train(
    output: Path | str | None = None,
    config: TrainConfig | None = None,
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
    from deploykit.training.distributed import leave, open_fabric, rank_from_environment
    from deploykit.training.signals import Stop

    if config is None:
        raise BadInput("nothing to train on", fix="Name the data, as in data='digits'.")
    if rank_from_environment() != 0:
        progress = SILENT
    target = Path(output) if output is not None else Path("model.pt")
    if target.suffix != ".pt":
        raise BadInput("the output's name", got=target.name, expected="a name that ends with .pt")
    if config.model.weights is not None:
        refuse_input(target, Path(config.model.weights))
    already_made(target, "", force=force)  # refuses what may not be replaced before any work
    leader = rank_from_environment() == 0
    with alone_with(target, progress) if leader else nullcontext(), Stop().listening() as stop:
        fabric = open_fabric(config)
        if fabric.world_size > 1:
            progress.say(f"{fabric.world_size} processes on {fabric.device.type}, {config.batch} images a step in all")
        result = _train(target, config, fabric, stop, force, progress)
        leave(fabric)
        return result


def _train(
    target: Path, config: TrainConfig, fabric: Fabric, stop: Stop, force: bool, progress: Progress
) -> TrainResult:
    from deploykit.data import open_data
    from deploykit.training.resume import ResumeFile
    from deploykit.training.start_model import start_network

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
    check_forward(start, preprocessing, len(data.classes))
    resume = ResumeFile(target, manifest.key, manifest.config)
    resume.check_writable()
    with kept_when_diverged(target, start, manifest, preprocessing, splits, resume, force):
        outcome = _fit(start, splits, preprocessing, config, fabric, resume, stop, progress)
    facts = course_facts(outcome.course, len(splits["select"]), fabric)
    if fabric.global_rank == 0:
        write_trained(target, outcome, start, manifest, preprocessing, splits, facts, force=force)
        resume.remove()
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
    from deploykit.base.environment import cores
    from deploykit.training.batches import Batches
    from deploykit.training.loop import fit
    from deploykit.training.step import top1_on

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
        _step(config, start, preprocessing),
        fabric=fabric,
        num_classes=len(select.classes),
        validate=top1_on(select, preprocessing, config.batch, fabric),
        resume=resume,
        stop=stop,
        masks=start.masks,
        progress=progress,
    )


def _step(config: TrainConfig, start: Start, preprocessing: Preprocessing) -> Step:
    """Cross-entropy, and the penalty that prepares for pruning where one is asked for."""
    from deploykit.training.step import cross_entropy_step, penalised_step

    step = cross_entropy_step(config.label_smoothing)
    if config.sparsify is None:
        return step
    from deploykit.pruning.regularize import penalty_for

    return penalised_step(
        step, penalty_for(config.sparsify, start.module, preprocessing.size), config.sparsify_strength
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
