"""Two runners on the same pictures: what ``export``, ``verify`` and ``benchmark`` judge numbers with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from deploykit.base.errors import AnswerNo, BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import SILENT, Progress
from deploykit.base.runner import Ranged, Runner, fed_batch
from deploykit.data.channels import channels_note
from deploykit.evaluation.confident_answers import Answers
from deploykit.evaluation.judging_images import LOOKS
from deploykit.evaluation.parity import Parity
from deploykit.evaluation.parity_meter import ParityMeter

BATCHES = (1, 2, 8)
FEW = 16


def parity_of(
    reference: Runner,
    candidate: Runner,
    images: Sequence[np.ndarray],
    batches: Sequence[int] = BATCHES,
    precision: str = "fp32",
    progress: Progress = SILENT,
    *,
    name: str = "eager",
    columns: Sequence[int] | None = None,
    until: Callable[[Answers | None], bool] | None = None,
) -> Parity:
    """Compare two runners on the same pictures, each with its own preprocessing.

    The largest batch size runs all pictures, the others the first 16. A batch size larger than the number of
    pictures is filled by repeating them. An engine with a fixed batch runs only that one.

    ``reference``: what is right. ``candidate``: what is judged; that it does not run at a batch size is a failed
    answer, not an error. ``images``: uint8 ``[H, W, 3]`` each, of any size. ``batches``: batch sizes of the candidate.
    ``precision``: whose budget applies. ``name``: of the reference, for the report. ``columns``: order of the
    candidate's classes that gives the reference's, or None. ``until``: asked after :data:`LOOKS` images whether these
    are enough (:func:`deploykit.evaluation.judge.settles`).

    Raises:
        BadInput: no pictures, a batch below 1, different outputs, no preprocessing.
    """
    if not len(images):
        raise BadInput("no pictures to compare on", fix="Give --data with at least one picture.")
    sizes = usable_batches(batches, candidate, progress)
    names = tuple(output.name for output in reference.outputs)
    meter = ParityMeter(name, precision, names, "none" not in (reference.task, candidate.task))
    ways = preprocessings(reference, candidate)
    if (note := channels_note(images[0], ways[0].channels)) is not None:
        progress.say(note)
    group, failed, kept = max(sizes), set[int](), list(range(len(names)))
    with progress.task("verify", total=len(images), unit="images") as task:
        for first, last in _parts(len(images), group):
            part = images[first:last]
            expected = _run(reference, prepared(part, ways[0]), fed_batch(reference, group) or group)
            if not first:
                kept = _by_image(expected, len(part), names, name, progress)
                meter.names = tuple(names[i] for i in kept)
            given = prepared(part, ways[1])
            for batch in sizes:
                few = len(part) if batch == group else max(0, min(len(part), FEW - first))
                if not few or batch in failed:
                    continue
                try:
                    outputs = _run(candidate, given[:few], batch, names)
                except (AnswerNo, BadInput) as error:
                    meter.fail(batch, f"it does not run: {error.line()}")
                    failed.add(batch)
                    continue
                if columns is not None:
                    outputs[0] = outputs[0][:, list(columns)]
                if len(outputs) == len(names):
                    outputs = [outputs[i] for i in kept]
                meter.add([expected[i][:few] for i in kept], outputs, batch=batch, first=first)
            task.advance(len(part))
            if until is not None and last in LOOKS and (meter.broken or until(meter.answers)):
                break
    return meter.result()


def _by_image(
    outputs: Sequence[np.ndarray], images: int, names: Sequence[str], name: str, progress: Progress
) -> list[int]:
    """Which outputs have a row for each image; what gathers over all of them (a mean, a list of boxes) cannot be compared.

    Raises:
        BadInput: none has.
    """
    kept = [i for i, output in enumerate(outputs) if len(output) == images]
    left = [f"{names[i]} of shape {list(one.shape)}" for i, one in enumerate(outputs) if i not in kept]
    if not kept:
        raise BadInput(
            f"{name} has no output with a row for each image",
            got=f"{', '.join(left)} for {images} images",
            fix="Cut off what gathers over the batch (NMS, means), and compare what stands before it.",
        )
    if left:
        progress.warn(f"not compared, because they have no row for each image: {', '.join(left)}")
    return kept


def _parts(n: int, size: int) -> Iterator[tuple[int, int]]:
    """``size`` images at a time, and a new start at each look: what is decided there must not depend on the batch size."""
    ends = [0, *(look for look in LOOKS if look < n), n]
    for low, high in pairwise(ends):
        yield from ((first, min(first + size, high)) for first in range(low, high, size))


def usable_batches(batches: Sequence[int], candidate: Runner, progress: Progress = SILENT) -> tuple[int, ...]:
    """The batch sizes in ascending order: those that the candidate takes (said where some are left out).

    An engine with profiles is compared at the size that each serves best, too.

    Raises:
        BadInput: none, or one below 1.
    """
    if not batches or min(batches) < 1:
        raise BadInput("batch sizes", got=list(batches), expected="at least one, each at least 1")
    fixed = candidate.inputs[0].fixed_batch
    if fixed is None and isinstance(candidate, Ranged) and (ranges := candidate.batch_ranges):
        taken = {size for size in batches if any(low <= size <= high for low, _, high in ranges)}
        if left := sorted(set(batches) - taken):
            progress.say(f"batch sizes {left} are not compared: no profile of the engine takes them")
        return tuple(sorted(taken | {best for _, best, _ in ranges}))
    if fixed is None:
        return tuple(sorted(set(batches)))
    if left := sorted(set(batches) - {fixed}):
        progress.say(f"only batch size {fixed} is compared: the engine takes no other (left out: {left})")
    return (fixed,)


def class_order(one: Runner, other: Runner, progress: Progress) -> list[int] | None:
    """The order of the candidate's classes that gives the reference's; None where it is the same or not known.

    Raises:
        BadInput: both name their classes, and not the same ones.
    """
    if one.classes is None or other.classes is None or one.classes == other.classes:
        return None
    if sorted(one.classes) != sorted(other.classes):
        foreign = [name for name in other.classes if name not in one.classes] or list(other.classes)
        raise BadInput(
            "the two have different classes",
            got=f"{len(other.classes)} classes, with {', '.join(foreign[:3])}",
            expected=f"the reference's {len(one.classes)}: {', '.join(one.classes[:3])} …",
        )
    progress.say("the classes stand in another order: they are compared by name")
    return [other.classes.index(name) for name in one.classes]


def say_preprocessing(one: Runner, other: Runner, progress: Progress) -> None:
    """Warn where the two turn a picture into their inputs differently."""
    mine, theirs = one.preprocessing, other.preprocessing
    if mine is None or theirs is None:
        return
    a, b = (
        {key: value for key, value in p.to_dict().items() if key not in ("embedded", "layout", "assumed")}
        for p in (mine, theirs)
    )
    if different := [f"{key} {a[key]} and {b[key]}" for key in a if a[key] != b[key]]:
        progress.warn("the two preprocess pictures differently, each its own way: " + ", ".join(different))


def preprocessings(one: Runner, other: Runner) -> tuple[Preprocessing, Preprocessing]:
    """Each side's preprocessing; a float side that does not say its own takes the other's normalisation."""
    mine, theirs = one.preprocessing, other.preprocessing
    known = mine or theirs
    if known is None:
        raise BadInput("neither artifact says its preprocessing", fix="Name the input size with --size.")
    return (
        mine or _for(known, one),
        theirs or _for(known, other),
    )


def _for(known: Preprocessing, runner: Runner) -> Preprocessing:
    spec = runner.inputs[0]
    return replace(known, embedded=spec.dtype == "uint8", layout="NHWC" if spec.layout == "NHWC" else "NCHW")


def prepared(images: Sequence[np.ndarray], preprocessing: Preprocessing) -> np.ndarray:
    """``data.prepare``: the input of a runner with this preprocessing."""
    from deploykit.data import prepare

    return prepare(images, preprocessing)


def _pieces(x: np.ndarray, batch: int, *, fill: bool) -> Iterator[tuple[np.ndarray, int]]:
    for start in range(0, len(x), batch):
        piece = x[start : start + batch]
        rows = len(piece)
        if rows < batch and fill:
            piece = np.take(x, np.arange(start, start + batch) % len(x), axis=0)
        yield piece, rows


def _run(runner: Runner, x: np.ndarray, batch: int, names: Sequence[str] = ()) -> list[np.ndarray]:
    """All outputs for ``x``, in the order of ``names`` where the engine has these, else in its own."""
    collected: list[list[np.ndarray]] = []
    fill = fed_batch(runner, batch) is not None or len(x) < batch
    for piece, rows in _pieces(x, batch, fill=fill):
        named = runner.run_all(piece)
        outputs = [named[n] for n in names] if set(names) == set(named) else list(named.values())
        outputs = [np.atleast_1d(out) for out in outputs]
        collected.append([out[:rows] if len(out) == len(piece) else out for out in outputs])
    return [np.concatenate(parts) for parts in zip(*collected, strict=True)]
