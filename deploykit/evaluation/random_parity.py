"""Two runners on the same random input: parity of any graph, whatever its inputs and outputs mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from deploykit.base.errors import AnswerNo, BadInput
from deploykit.base.progress import SILENT, Progress
from deploykit.base.runner import Feed, Runner
from deploykit.base.tensor_spec import TensorSpec
from deploykit.engines.random_input import Shapes, input_shapes, random_input, rows_of
from deploykit.evaluation.judge import BY_ANSWERS, Bars, Verdict, judge
from deploykit.evaluation.parity import Parity
from deploykit.evaluation.parity_meter import ParityMeter
from deploykit.evaluation.snr import budget_of

INPUTS, FEW = 8, 2
"""Inputs at the first batch size, and at each further one."""
SOURCE = "random input"


def parity_on_random(
    reference: Runner,
    candidate: Runner,
    shapes: Shapes,
    batches: Sequence[int] = (1,),
    precision: str = "fp32",
    progress: Progress = SILENT,
    *,
    seed: int = 0,
    name: str = "reference",
) -> Parity:
    """Compare two runners on eight random inputs, which differ in brightness and contrast as images do.

    Outputs that have a row for each row of the input are compared row by row, others as one.

    ``reference``: what is right. ``candidate``: what is judged, given the same numbers by name, else in the same order.
    ``shapes``: of inputs whose sizes are free, as the user named them. ``batches``: of free first dimensions; further ones
    that the reference does not take are left out. ``precision``: whose budget applies. ``name``: of the reference, for the
    report.

    Raises:
        BadInput: inputs or outputs that do not fit one another, or a size that nothing names.
        AnswerNo: the reference does not run.
    """
    pairs = _pairs(reference, candidate)
    names = tuple(one.name for one in reference.outputs)
    meter = ParityMeter(name, precision, names, classes=False)
    wanted = {rows_of(found): found for batch in batches for found in (input_shapes(candidate, shapes, batch),)}
    with progress.task("verify", total=len(wanted), unit="batch sizes") as task:
        for place, (rows, found) in enumerate(wanted.items()):
            try:
                for number in range(INPUTS if place == 0 else FEW):
                    feed = _varied(random_input(candidate.inputs, found, seed + number), seed + number)
                    expected = _outputs(reference, _like(feed, pairs), names)
                    _add(meter, candidate, _alone(feed), expected, rows, number)
            except AnswerNo:
                if place == 0:
                    raise
                progress.say(f"batch size {rows} is not compared: {name} does not run it")
            task.advance(1)
    return meter.result()


def _add(meter: ParityMeter, candidate: Runner, x: Feed, expected: list[np.ndarray], rows: int, number: int) -> None:
    try:
        given = _outputs(candidate, x, meter.names)
    except AnswerNo as error:
        meter.fail(rows, f"it does not run: {error.line()}")
        return
    if any(out.shape[:1] != (rows,) for out in (*expected, *given)):
        expected, given = [out[None] for out in expected], [out[None] for out in given]
    meter.add(expected, given, batch=rows, first=number * len(expected[0]))


def judged_on_random(parity: Parity, precision: str, bars: Bars = Bars()) -> Verdict:
    """Judge what random input showed.

    int8 that parts from its float network there is unsure, as it is calibrated on images; and so is what answers zero to noise
    (a detector that finds nothing).

    ``bars``: an SNR that is asked for by hand decides.
    """
    verdict = judge(parity, None, precision, bars, split=SOURCE)
    if verdict.status != "failed" or parity.broken or bars.min_snr_db is not None:
        return verdict
    if precision in BY_ANSWERS:
        return replace(verdict, status="unsure", reasons=(*verdict.reasons, "noise is not what it was calibrated on"))
    told = [one for one in parity.figures if one.value is not None]
    if any(one.misses(budget_of(precision)) for one in told):
        return verdict
    return replace(verdict, status="unsure", reasons=("the reference answers zero to random input: name --data",))


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
    return {name: np.asarray(low + (high - low) * x, x.dtype) if x.dtype.kind == "f" else x for name, x in feed.items()}


def _outputs(runner: Runner, x: Feed, names: Sequence[str]) -> list[np.ndarray]:
    named = runner.run_all(x)
    return [named[name] for name in names] if set(names) == set(named) else list(named.values())
