"""Two runners on the same random input: parity of any graph, whatever its inputs and outputs mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deploykit.base.errors import AnswerNo, BadInput
from deploykit.base.progress import SILENT, Progress
from deploykit.base.runner import Feed, Runner
from deploykit.base.tensor_spec import TensorSpec
from deploykit.engines.random_input import Shapes, input_shapes, random_input, rows_of
from deploykit.evaluation.parity import Parity
from deploykit.evaluation.parity_meter import ParityMeter

INPUTS = 8


def parity_on_random(
    reference: Runner,
    candidate: Runner,
    shapes: Shapes,
    batch: int = 1,
    precision: str = "fp32",
    progress: Progress = SILENT,
    *,
    seed: int = 0,
    name: str = "reference",
) -> Parity:
    """Compare two runners on eight random inputs, which differ in brightness and contrast as images do.

    Outputs that have a row for each row of the input are compared row by row, others as one.

    ``reference``: what is right. ``candidate``: what is judged, given the same numbers by name, else in the same order.
    ``shapes``: of inputs whose sizes are free, as the user named them. ``batch``: of free first dimensions. ``precision``:
    whose budget applies. ``name``: of the reference, for the report.

    Raises:
        BadInput: inputs or outputs that do not fit one another, or a size that nothing names.
    """
    wanted = input_shapes(candidate, shapes, batch)
    pairs = _pairs(reference, candidate)
    rows = rows_of(wanted)
    names = tuple(one.name for one in reference.outputs)
    meter = ParityMeter(name, precision, names, classes=False)
    with progress.task("verify", total=INPUTS, unit="inputs") as task:
        for number in range(INPUTS):
            feed = _varied(random_input(candidate.inputs, wanted, seed + number), seed + number)
            expected = _outputs(reference, _like(feed, pairs), names)
            try:
                given = _outputs(candidate, _alone(feed), names)
            except AnswerNo as error:
                meter.fail(rows, f"it does not run: {error.line()}")
                break
            if any(out.shape[:1] != (rows,) for out in (*expected, *given)):
                expected, given = [out[None] for out in expected], [out[None] for out in given]
            meter.add(expected, given, batch=rows, first=number * len(expected[0]))
            task.advance(1)
    return meter.result()


def _pairs(reference: Runner, candidate: Runner) -> list[tuple[TensorSpec, str]]:
    """Each input of the reference with the name of the candidate's that is given the same numbers."""
    mine, theirs = reference.inputs, [one.name for one in candidate.inputs]
    if len(mine) != len(theirs):
        raise BadInput(
            "the two have different inputs", got=", ".join(theirs), expected=", ".join(one.name for one in mine)
        )
    by_name = {one.name for one in mine} == set(theirs)
    return [(one, one.name if by_name else other) for one, other in zip(mine, theirs, strict=True)]


def _like(feed: dict[str, np.ndarray], pairs: Sequence[tuple[TensorSpec, str]]) -> Feed:
    """The same numbers as the reference takes them: floats in its own precision; other types are refused by it."""
    found = {}
    for spec, name in pairs:
        dtype = np.dtype(spec.dtype)
        found[spec.name] = feed[name].astype(dtype) if feed[name].dtype.kind == dtype.kind == "f" else feed[name]
    return _alone(found)


def _alone(feed: dict[str, np.ndarray]) -> Feed:
    return feed if len(feed) > 1 else next(iter(feed.values()))


def _varied(feed: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Floats between two random numbers of 0…1: equal noise would look the same to a network."""
    low, high = np.sort(np.random.default_rng([seed, len(feed)]).random(2))
    return {name: (low + (high - low) * x).astype(x.dtype) if x.dtype.kind == "f" else x for name, x in feed.items()}


def _outputs(runner: Runner, x: Feed, names: Sequence[str]) -> list[np.ndarray]:
    named = runner.run_all(x)
    return [named[name] for name in names] if set(names) == set(named) else list(named.values())
