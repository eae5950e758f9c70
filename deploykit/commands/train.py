"""``deploykit train``: data and a network's name → a trained model file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deploykit.base.artifact import Made, Manifest, Parent, artifact_sha256
from deploykit.base.checkpoint import check_file
from deploykit.base.environment import chosen_device
from deploykit.base.errors import BadInput
from deploykit.base.progress import SILENT, Progress
from deploykit.commands.stage import Opener, Planned, Stage, data_parents, make_artifact, opener, output_path, recorded
from deploykit.config.keywords import by_keywords
from deploykit.config.train import TrainConfig
from deploykit.reporting.format import percent
from deploykit.training.signals import Stop

if TYPE_CHECKING:
    from deploykit.training.classifier import PenaltyFor

STAGE = Stage("train", 2, ("torch", "torchvision", "timm"))


@dataclass(frozen=True)
class TrainResult(Made):
    """What a training run made.

    Attributes:
        output: the model file.
        made: False where the identical file was there already.
        facts: top1_select (0…1, None where there are no ``select`` pictures), top1_select_last, select_images, epochs,
            best_epoch (from 1), threads, device, processes.
        measured: seconds, images_per_s.
    """

    def summary(self) -> str:
        """For people."""
        if not self.made:
            return f"{self.output} is up to date: same data, options and versions; nothing done"
        facts = self.facts
        quality = "no select pictures to judge it by"
        if facts["top1_select"] is not None:
            quality = f"top-1 {percent(facts['top1_select'])} on {facts['select_images']} select pictures"
        noun = "thread" if facts["threads"] == 1 else "threads"
        return (
            f"{self.output}: {quality} (epoch {facts['best_epoch']} of {facts['epochs']}), "
            f"{self.measured['seconds']:.1f} s, {self.measured['images_per_s']:.0f} images/s, {facts['device']}, "
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
    from deploykit.training.classifier import train_classifier
    from deploykit.training.distributed import agreed, leave, open_fabric, rank_from_environment
    from deploykit.training.model_file import Run
    from deploykit.training.start_model import start_network

    if config is None:
        raise BadInput("nothing to train on", fix="Name the data, as in data='digits'.")
    leads = rank_from_environment() == 0
    progress = progress if leads else SILENT
    weights = config.model.weights
    target = output_path(output, Path("model.pt"), ".pt", *([Path(weights)] if weights is not None else []))
    data = opener(config.data, allow_code=config.allow_code, skip_broken=config.skip_broken, progress=progress)
    stop = Stop()

    def plan() -> Planned:
        fabric = open_fabric(config)
        if fabric.world_size > 1:
            progress.say(f"{fabric.world_size} processes on {fabric.device.type}, {config.batch} images a step in all")
        data().need_labels("training")
        if len(data().classes) < 2:
            raise BadInput(f"{config.data} has one class", got=data().classes[0], expected="at least two")
        start = start_network(config, data().classes, progress, channels=data().channels)
        manifest = planned(None, target, config, data)

        def make() -> Manifest:
            run = Run(target, manifest, fabric, stop, force, progress)
            described = train_classifier(run, config, data(), start, _penalty(config))
            leave(fabric)
            return described

        return Planned(manifest, make, partial(agreed, fabric=fabric))

    with stop.listening():
        manifest, made = make_artifact(target, plan, force=force, progress=progress, leads=leads)
    return TrainResult(target, made, manifest.facts, manifest.measured)


def planned(source: None, target: Path, config: TrainConfig, data: Opener) -> Manifest:
    """The manifest of the model file ``target`` before it is made."""
    parents = data_parents(config.data, data(), "train", "select", "test")
    fields = recorded(config)
    if config.model.weights is not None:
        weights = Path(config.model.weights)
        parents.append(Parent("model", artifact_sha256(check_file(weights)), name=weights.name))
        fields["model"]["weights"] = weights.name
    hardware = {"device": chosen_device(config.device)}
    return STAGE.manifest("model", fields, parents, precision="fp32", hardware=hardware)


def _penalty(config: TrainConfig) -> PenaltyFor | None:
    """What prepares for pruning, where it is asked for."""
    if config.sparsify is None:
        return None
    from deploykit.pruning.regularize import penalty_for

    return partial(penalty_for, config.sparsify)
