"""What every command that trains does before and after the loop: try the network, tell the course, write the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploykit.base.artifact import Manifest, already_made, files_of, write_manifest
from deploykit.base.errors import BadInput
from deploykit.reporting.attachments.files import attach
from deploykit.training.worth import attachments_of

if TYPE_CHECKING:
    import numpy as np
    from lightning_fabric import Fabric

    from deploykit.base.preprocessing import Preprocessing
    from deploykit.data import Split
    from deploykit.training.course import Course, Outcome
    from deploykit.training.resume import ResumeFile
    from deploykit.training.start_model import Start

SAMPLES = 32


def check_forward(start: Start, preprocessing: Preprocessing, classes: int) -> None:
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


def course_facts(course: Course, select_images: int, fabric: Fabric) -> dict[str, Any]:
    """What a manifest says of a training run; see :class:`deploykit.commands.train.TrainResult`."""
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


def write_trained(
    target: Path,
    outcome: Outcome,
    start: Start,
    manifest: Manifest,
    preprocessing: Preprocessing,
    splits: dict[str, Split],
    facts: dict[str, Any],
    *,
    force: bool = False,
) -> None:
    """Write the best epoch as a model file, what the report shows of it, and its manifest last.

    The manifest names the stage of its lineage entry.
    """
    from deploykit.models import save_model

    classes = splits["train"].classes
    start.module.load_state_dict(outcome.tensors)
    parents = [{"role": p.role, "sha256": p.sha256, "name": p.name} for p in manifest.parents]
    entry = {"stage": manifest.stage, "config": manifest.config, "parents": parents, "result": facts}
    save_model(
        target,
        start.module,
        start.arch,
        preprocessing,
        classes,
        ema=outcome.ema,
        lineage=[*start.lineage, entry],
        samples=_samples(splits["test"], preprocessing),
        masks=start.masks,
        claim=True,
    )
    attach(target, attachments_of(manifest.stage, outcome.course, facts, start.lineage), force=force)
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
def kept_when_diverged(
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
    from deploykit.training.distributed import rank_from_environment

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
            write_trained(place, error.kept, start, manifest, preprocessing, splits, facts, force=force)
            error.what += f"; the weights of epoch {facts['best_epoch']} are kept in {place}"
            error.args = (error.line(),)
        raise
