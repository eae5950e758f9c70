"""Running a classifier over a split: images are streamed, only the logits stay."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from deploykit.base.errors import BadInput
from deploykit.base.overrides import Stated, assumption
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import SILENT, Progress
from deploykit.base.runner import Runner, fed_batch
from deploykit.data.channels import channels_note
from deploykit.engines.batching import filled
from deploykit.evaluation.logits import one_logit

if TYPE_CHECKING:
    from deploykit.data import Split


def collect_logits(
    runner: Runner,
    split: Split,
    batch: int,
    limit: int | None = None,
    progress: Progress = SILENT,
    *,
    name: str = "the model",
    preprocessing: Preprocessing | None = None,
) -> np.ndarray:
    """Run a classifier over a split; images are streamed, only the logits stay.

    Returns float32 [N, C] in the order of the split's images and of the data's classes; of the model's own, where the
    images have no labels.

    Args:
        runner: an open engine.
        split: of a data source.
        batch: images per call; an engine that does not take as many is fed what it takes, the last call filled up.
        limit: number of images at most, spread evenly; their labels are ``split.labels[split.chosen(limit)]``.
        progress: shows one bar, and says how the classes were mapped.
        name: of the variant, for messages.
        preprocessing: in place of the runner's own, for engines that carry none.

    Raises:
        BadInput: the model is no classifier, or its classes do not fit the data's.
    """
    total = len(split.chosen(limit))
    fixed = fed_batch(runner, batch)
    preprocessing = preprocessing or runner.preprocessing
    if preprocessing is None:
        raise BadInput(f"{name} carries no preprocessing", fix="Name the input size with --size.")
    if total and (note := channels_note(split.image(0), preprocessing.channels)) is not None:
        progress.say(f"{name}: {note}")
    logits: np.ndarray | None = None
    done = 0
    with progress.task(f"{name}: accuracy", total=total, unit="images") as task:
        for x, _ in split.batches(fixed or batch, preprocessing, limit=limit):
            rows = rows_of(runner, x, fixed)
            if logits is None:
                _refuse_if_no_classifier(runner, rows, len(x), name)
                logits = np.empty((total, rows.shape[1]), dtype=np.float32)
            logits[done : done + len(x)] = rows
            done += len(x)
            task.advance(len(x))
    if logits is None:
        raise BadInput(f"{name}: there are no images to evaluate on", fix="Choose another --data or split.")
    if not split.labelled:
        return logits[:done]
    return in_data_order(logits[:done], runner.classes, split.classes, name, progress)


def rows_of(runner: Runner, x: np.ndarray, fixed: int | None) -> np.ndarray:
    """The output rows of ``x``; a fixed batch is filled up with copies of the last image, whose rows are dropped again."""
    return runner(filled(x, fixed or 0))[: len(x)]


def _refuse_if_no_classifier(runner: Runner, rows: np.ndarray, images: int, name: str) -> None:
    if rows.ndim == 2 and rows.shape[0] == images and rows.shape[1] > 1:
        return
    if rows.ndim == 2 and rows.shape[1:] == (1,):
        raise one_logit(name)
    names = ", ".join(spec.name for spec in runner.outputs)
    raise BadInput(
        f"{name} is no classifier (detection and segmentation models cannot be evaluated yet)",
        got=f"outputs {names}, the first of shape {list(rows.shape)}",
        expected="[N, C]",
        fix="`deploykit verify` compares their raw outputs.",
    )


def in_data_order(
    logits: np.ndarray,
    model_classes: tuple[str, ...] | None,
    data_classes: tuple[str, ...],
    name: str,
    progress: Progress = SILENT,
) -> np.ndarray:
    """The columns of ``logits`` in the order of the data's classes: by name where both are named, else by index.

    Raises:
        BadInput: names or counts that do not fit.
    """
    from deploykit.data.classes import imagenet_classes, map_classes

    outputs = logits.shape[1]
    ids = tuple(imagenet_classes())
    if model_classes is None and outputs == len(ids) != len(data_classes) and set(data_classes) <= set(ids):
        progress.say(f"{name}: its {outputs} outputs without names are taken to be ImageNet's classes")
        model_classes = ids
    if model_classes is None and outputs != len(data_classes):
        raise BadInput(
            f"{name}: the labels do not fit the head",
            got=f"{outputs} outputs without names and {len(data_classes)} classes in the data",
            expected="as many outputs as classes, or class names on both sides",
            fix="Use the data it was trained on, or a model with as many classes as the data.",
        )
    if model_classes is not None and len(model_classes) != outputs:
        raise BadInput(f"{name}: {len(model_classes)} class names for {outputs} outputs", fix="Export it again.")
    index, message = map_classes(model_classes, data_classes)
    if message:
        progress.say(f"{name}: {message}")
    if index is not None and len(index) < outputs:
        progress.warn(f"{name}: judged among the data's {len(index)} classes only, its other outputs are left out")
    return logits if index is None else np.ascontiguousarray(logits[:, index])


def preprocessing_of(
    runner: Runner, natural: tuple[int, int] | None, stated: Stated, name: str, progress: Progress = SILENT
) -> Preprocessing:
    """What turns an image into the runner's input: its own, else what its input declares, at the images' ``natural`` size.

    What the runner had to assume is said; a normalization that nothing states is warned of.

    Raises:
        BadInput: neither the artifact nor the images nor ``stated`` say how large the input is.
    """
    found = runner.preprocessing
    if found is None:
        found = replace(stated, size=stated.size or natural).of_input(runner.inputs[0])
    if found is None:
        raise BadInput(f"{name} does not say how large its input is", fix="Name the size in pixels with --size.")
    assumed = assumption(found, name)
    for note in runner.notes:
        if assumed is None or not note.endswith(assumed.removeprefix(name)):
            progress.say(f"{name}: {note}")
    if assumed is not None:
        progress.warn(assumed)
    return found
