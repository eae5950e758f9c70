"""What every command that trains does before and after the loop: try the network, tell the course, show and write the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from lightning_fabric import Fabric

from deploykit.base.artifact import LineageEntry, Manifest, already_made, lineage_entry, write_model_manifest
from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import Progress
from deploykit.data import Split, prepare
from deploykit.models import save_model
from deploykit.reporting.attachments import Attachment, series, table
from deploykit.reporting.attachments.files import attach
from deploykit.training.distributed import rank_from_environment
from deploykit.training.resume import Course, Diverged, Outcome, ResumeFile, Retry
from deploykit.training.signals import Stop
from deploykit.training.start_model import Start

MOST_POINTS = 2000
MOST_TEACHERS = 8
SAMPLES = 32


@dataclass(frozen=True)
class Run:
    """One training run and the model file that it makes.

    ``manifest``: of it, without files and facts. ``fabric``: the processes and their device. ``stop``: whether somebody
    asked to stop. ``force``: replace files that are not ours.
    """

    target: Path
    manifest: Manifest
    fabric: Fabric
    stop: Stop
    force: bool
    progress: Progress


@dataclass(frozen=True)
class Lesson:
    """What a network learns in a run: the splits by name, at the size of ``preprocessing``."""

    run: Run
    start: Start
    splits: dict[str, Split]
    preprocessing: Preprocessing


def attachments_of(
    stage: str, course: Course, facts: Mapping[str, Any], lineage: Sequence[LineageEntry]
) -> list[Attachment]:
    """The attachments of a trained model file.

    ``course``: how training went. ``facts``: of this stage; ``top1_select_before`` and ``teachers`` are shown where
    they are there. ``lineage``: of the file that it started from, oldest first.
    """
    kept = f"Epoch {facts['best_epoch']}" if facts["best_epoch"] else "The network as it came"
    select = _thin([(epoch, top1) for epoch, top1 in enumerate(course.top1, start=1) if top1 is not None])
    if facts.get("top1_select_before") is not None:
        select.insert(0, (0, facts["top1_select_before"]))
    lines: dict[str, list[tuple[float, float]]] = {"student": select} if select else {}
    for teacher in facts.get("teachers", ())[:MOST_TEACHERS]:
        if select:
            lines[f"teacher {teacher['name']}"] = [(at, teacher["top1_select"]) for at in (select[0][0], select[-1][0])]
    losses = _thin(list(enumerate(course.losses, start=1)))
    made = [
        series("Training loss", stage, "epoch", {"label": "loss", "log": min(course.losses) > 0}, {"train": losses}),
        *([series("Top-1 on select", stage, "epoch", "top-1", lines, f"{kept} was kept.")] if select else []),
    ]
    if course.trials:
        rates: list[Mapping[str, object]] = [
            {"name": "learning rate", "align": "left"},
            {"name": "top-1", "unit": "%", "digits": 2},
            {"name": "cross-entropy", "digits": 4},
        ]
        tried = [
            [f"{one['lr']:g}", 100 * one["top1"], one["loss"]] for one in sorted(course.trials, key=itemgetter("lr"))
        ]
        told = f"On a slice of select, after the same few steps from the same weights; {course.lr:g} was the last peak rate."
        made.append(table("Range test of the learning rate", stage, rates, tried, told))
    rows = worth_of([*lineage, {"stage": stage, "result": facts}])
    columns: list[Mapping[str, object]] = [
        {"name": "step", "align": "left"},
        {"name": "million MACs", "digits": 2},
        *(
            {"name": name, "unit": "%", "digits": 2}
            for name in ("one-shot", "BatchNorm re-estimated", "after training")
        ),
        {"name": "worth", "unit": "pt", "digits": 2},
    ]
    note = "Top-1 on the select pictures, by which every choice is made; the test split is judged apart."
    return [*made, *([table("What each step was worth", stage, columns, rows, note)] if len(rows) > 1 else [])]


def worth_of(lineage: Sequence[LineageEntry]) -> list[list[Any]]:
    """One row per step that said how it answers ``select``: step, MACs in millions, top-1 in % before anything else is done
    to its network, with BatchNorm re-estimated and after training, and the change over the step before in points.
    """
    rows: list[list[Any]] = []
    last: float | None = None
    for entry in lineage:
        facts = entry.get("result") or {}
        shot, again, trained = _accuracies(facts)
        known = [value for value in (trained, again, shot) if value is not None]
        if not known:
            continue
        worth = None if last is None else 100 * (known[0] - last)
        macs = _macs(facts)
        rows.append([_named(entry, rows), macs / 1e6 if macs else None, *map(_percent, (shot, again, trained)), worth])
        last = known[0]
    return rows


def _accuracies(facts: Mapping[str, Any]) -> tuple[float | None, float | None, float | None]:
    """Top-1 as the network was cut, with BatchNorm re-estimated, and after training; None where a step has none."""
    found = facts.get("top1_select")
    if isinstance(found, dict):
        return found.get("one_shot"), found.get("recalibrated"), None
    return None, None, found


def _macs(facts: Mapping[str, Any]) -> float | None:
    """Of the network that the step made, where it says so."""
    found = (facts.get("student") or facts).get("macs")
    return found.get("after") if isinstance(found, dict) else found


def _named(entry: LineageEntry, rows: Sequence[list[Any]]) -> str:
    stage = str(entry.get("stage", "?"))
    before = sum(str(row[0]).partition(" ")[0] == stage for row in rows)
    return stage if not before else f"{stage} ({before + 1})"


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    if len(points) <= MOST_POINTS:
        return points
    return [points[i * (len(points) - 1) // (MOST_POINTS - 1)] for i in range(MOST_POINTS)]


def check_forward(start: Start, preprocessing: Preprocessing, classes: int) -> None:
    """Try the network on one blank picture.

    Raises:
        BadInput: it does not take pictures of this size, or does not give one logit per class.
    """
    height, width = preprocessing.size
    start.module.eval()
    try:
        with torch.inference_mode():
            given = start.module(torch.zeros(1, *preprocessing.shape))
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


class CourseFacts(TypedDict):
    """How a training run went.

    ``top1_select`` (None where ``select`` is empty) and ``loss_train`` (None of the network as it came): of the epoch that
    was kept, ``best_epoch``, from 1; 0: the network as it came. ``epochs``: done. ``lr``: the last peak rate.
    ``lr_tried``: each candidate of the range test with its top-1 and cross-entropy on a slice of ``select``.
    ``retries``: where training went back and on at a lower rate.
    """

    top1_select: float | None
    top1_select_last: float | None
    select_images: int
    loss_train: float | None
    lr: float
    lr_tried: list[dict[str, float | None]]
    retries: list[Retry]
    epochs: int
    best_epoch: int
    threads: int
    device: str
    processes: int


def course_facts(course: Course, select_images: int, fabric: Fabric) -> CourseFacts:
    """What a manifest says of a training run."""
    return {
        "top1_select": course.best_top1,
        "top1_select_last": course.top1[-1],
        "select_images": select_images,
        "loss_train": None if course.best < 0 else course.losses[course.best],
        "lr": course.lr,
        "lr_tried": [
            {"lr": one["lr"], "top1_select": one["top1"], "loss_select": one["loss"]} for one in course.trials
        ],
        "retries": course.retries,
        "epochs": len(course.top1),
        "best_epoch": course.best + 1,
        "threads": course.threads,
        "device": fabric.device.type,
        "processes": fabric.world_size,
    }


def measured_of(course: Course) -> dict[str, float]:
    """How long a training run took, and how many images it trained on in a second: for :attr:`Manifest.measured`."""
    return {
        "seconds": round(course.total_s, 3),
        "images_per_s": round(course.images / max(course.train_s, 1e-9), 1),
    }


def write_trained(
    lesson: Lesson, outcome: Outcome, facts: Mapping[str, object], *, place: Path | None = None
) -> Manifest:
    """Write the best epoch as a model file, what the report shows of it, and its manifest last.

    The manifest names the stage of its lineage entry.

    The network gets the outcome's tensors. ``place``: another file than the run's. Returns the manifest as written.
    """
    run, start, preprocessing = lesson.run, lesson.start, lesson.preprocessing
    target, manifest, classes = place or run.target, run.manifest, lesson.splits["train"].classes
    start.module.load_state_dict(outcome.tensors)
    save_model(
        target,
        start.module,
        start.arch,
        preprocessing,
        classes,
        ema=outcome.ema,
        lineage=[*start.lineage, lineage_entry(manifest, facts)],
        samples=samples_of_split(lesson.splits["test"], preprocessing),
        masks=start.masks,
        claim=True,
    )
    attach(target, attachments_of(manifest.stage, outcome.course, facts, start.lineage), force=run.force)
    return write_model_manifest([target], manifest, preprocessing, classes, facts, measured_of(outcome.course))


def samples_of_split(test: Split, preprocessing: Preprocessing) -> dict[str, np.ndarray] | None:
    """Test pictures spread over the split, at the network's size: they let a lone file be verified on real input."""
    if len(test) == 0:
        return None
    indices = test.chosen(SAMPLES, "ends")
    images = prepare([test.image(int(i)) for i in indices], replace(preprocessing, embedded=True, layout="NHWC"))
    return {"images": images, "labels": test.labels[indices]}


@contextmanager
def kept_when_diverged(lesson: Lesson, resume: ResumeFile) -> Iterator[None]:
    """Where the loss becomes NaN, keep the best epoch before it as ``model.best.pt`` and say so in the error.

    The state goes: to go on from it would end in the same way.
    """
    try:
        yield
    except Diverged as error:
        if rank_from_environment() != 0:
            raise
        resume.remove()
        run = lesson.run
        if error.kept is not None:
            place = run.target.with_name(f"{run.target.stem}.best.pt")
            already_made(place, "", force=run.force)
            facts = {"diverged": error.what, "best_epoch": error.kept.course.best + 1}
            facts["top1_select"] = error.kept.course.best_top1
            write_trained(lesson, error.kept, facts, place=place)
            error.what += f"; the weights of epoch {facts['best_epoch']} are kept in {place}"
            error.args = (error.line(),)
        raise
