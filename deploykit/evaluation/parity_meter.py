"""Collects the outputs of two engines, as they come, into their :class:`deploykit.evaluation.parity.Parity`."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from deploykit.base.errors import BadInput
from deploykit.evaluation.confident_answers import Answers, answers_of
from deploykit.evaluation.output_groups import ChannelSums, Group, decibels, groups_of, joined
from deploykit.evaluation.parity import BatchParity, Parity, WorstImage
from deploykit.evaluation.snr import Figure, Sums, budget_of, too_small, totals
from deploykit.stats.proportions import wilson

WORST = 5


@dataclass
class _Output:
    """What one output did at one batch size: its channels, or of integers how many of how many are equal.

    ``agreed``: of so many ``decisions`` at 0.5, of outputs ``[N, C]``.
    """

    channels: ChannelSums = field(default_factory=ChannelSums)
    integers: int = 0
    equal: int = 0
    decisions: int = 0
    agreed: int = 0


@dataclass
class _Batch:
    """What one batch size did."""

    n: int = 0
    whole: Sums = field(default_factory=Sums)
    outputs: dict[str, _Output] = field(default_factory=dict)
    answers: Answers = field(default_factory=Answers)


@dataclass
class ParityMeter:
    """Collects outputs batch by batch and answers with a :class:`Parity`.

    ``precision``: whose budget applies. ``names``: of the outputs, in the reference's order. ``classes``: False: the only
    output is no classifier's, whatever its shape.

    Raises:
        BadInput: an unknown precision.
    """

    reference: str
    precision: str
    names: tuple[str, ...] = ("output",)
    classes: bool = True
    _batches: dict[int, _Batch] = field(default_factory=dict)
    _worst: list[tuple[float, float, int, int, WorstImage]] = field(default_factory=list)
    _failed: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        budget_of(self.precision)

    def add(
        self, reference: Sequence[np.ndarray], candidate: Sequence[np.ndarray], *, batch: int, first: int = 0
    ) -> None:
        """Add the outputs of the same images.

        ``reference``: one array per output, ``[N, …]``; a classifier's only one is ``[N, C]``. ``candidate``: the
        same of the candidate. ``batch``: the batch size the candidate ran with. ``first``: index of the first image.

        Raises:
            BadInput: numbers of outputs or shapes differ. Another number of rows is no bad input but a failure of this
                batch size: the candidate's graph has a batch hard-coded.
        """
        if len(reference) != len(candidate):
            raise BadInput(
                "the two have different numbers of outputs",
                got=f"{len(candidate)}",
                expected=f"{len(reference)} as {self.reference} has",
            )
        rows = {len(c) if c.ndim else 0 for c in candidate}
        if rows != {len(reference[0])}:
            self.fail(batch, f"answers {max(rows)} rows for {len(reference[0])} images: a batch size is hard-coded")
            return
        found = self._batches.setdefault(batch, _Batch())
        for name, r, c in zip(self.names, reference, candidate, strict=True):
            if r.shape != c.shape:
                raise BadInput(
                    f"output {name!r} has another shape at batch size {batch}",
                    got=list(c.shape),
                    expected=f"{list(r.shape)} as {self.reference} has",
                    fix="Compare artifacts of the same network, classes and input size.",
                )
            found.whole.add(r, c)
            output = found.outputs.setdefault(name, _Output())
            if "f" == r.dtype.kind == c.dtype.kind:
                output.channels.add(r, c)
                if r.ndim == 2:
                    output.decisions += r.size
                    output.agreed += int(np.count_nonzero((r >= 0.5) == (c >= 0.5)))
            else:
                output.integers += r.size
                output.equal += int(np.count_nonzero(r == c))
        found.n += len(reference[0])
        self.classes = self.classes and len(reference) == 1 and reference[0].ndim == 2 and reference[0].shape[1] > 1
        if self.classes:
            found.answers += answers_of(reference[0], candidate[0])
        self._rank(reference[0], candidate[0], batch, first)

    def fail(self, batch: int, reason: str) -> None:
        """Record that the candidate did not answer at this batch size."""
        self._failed.setdefault(batch, reason)
        self._batches.setdefault(batch, _Batch())

    @property
    def answers(self) -> Answers | None:
        """Of both so far, at the batch size that ran the most images; None where the output is not one of classes."""
        return self._main.answers if self.classes and self._batches and self._main.n else None

    @property
    def broken(self) -> bool:
        """Whether more images change nothing: there are numbers that are none, or nothing of it runs."""
        found = self._batches.values()
        return any(one.whole.broken for one in found) or (bool(self._failed) and not any(one.n for one in found))

    def _decisions(self) -> tuple[int, int] | None:
        """How many of how many decisions at 0.5 are the same, over outputs ``[N, C]`` of numbers in [0, 1] that are no classes."""
        told = [one for one in self._main.outputs.values() if one.decisions and one.channels.are_scores()]
        if self.classes or not told:
            return None
        return sum(one.agreed for one in told), sum(one.decisions for one in told)

    @property
    def _main(self) -> _Batch:
        return max(self._batches.items(), key=lambda item: (item[1].n, item[0]))[1]

    def _rank(self, reference: np.ndarray, candidate: np.ndarray, batch: int, first: int) -> None:
        """Keep the images that differ most: those whose class changed before the others."""
        for row, (r, c) in enumerate(zip(reference, candidate, strict=True)):
            image = Sums()
            image.add(r, c)
            if image.identical:
                continue
            entry: WorstImage = {"index": first + row, "batch": batch}
            changed = False
            if self.classes:
                changed = bool(answers_of(r[None], c[None]).changed)
                entry["reference_class"] = int(np.argmax(r))
                entry["candidate_class"] = int(np.argmax(c)) if np.isfinite(c).all() else -2
            entry["max_abs"], entry["snr_db"] = None if image.broken else image.max_abs, image.snr_db
            share = math.inf if image.broken else image.noise / max(image.signal, 1e-300)
            item = (float(changed), share, -entry["index"], -batch, entry)
            (heapq.heappush if len(self._worst) < WORST else heapq.heappushpop)(self._worst, item)

    def result(self) -> Parity:
        """The parity of everything added.

        Raises:
            BadInput: no images were added.
        """
        if not self._failed and not any(one.n for one in self._batches.values()):
            raise BadInput("no images to compare on", fix="Give --data with at least one image.")
        groups = self._groups()
        by_batch, broken, figures, reasons = [], list[str](), list[Figure](), list[str]()
        for batch, found in sorted(self._batches.items()):
            wrong = [self._failed[batch]] if batch in self._failed else _broken(found.whole, self.reference)
            told = [] if wrong else self._figures(found, groups)
            short = too_small(told, self.precision, budget_of(self.precision))
            reasons += [f"batch {batch}: {reason}" for reason in (*wrong, *short)]
            broken += [f"batch {batch}: {reason}" for reason in wrong]
            figures += [replace(one, of=", ".join(filter(None, (one.of, f"batch {batch}")))) for one in told]
            by_batch.append(
                BatchParity(
                    batch=batch,
                    n=found.n,
                    max_abs=found.whole.largest,
                    snr_db=_smallest(told, "snr_db"),
                    identical=found.whole.identical,
                    top1_agreement=found.answers.same / found.n if self.classes and found.n else None,
                    ok=not (wrong or short),
                )
            )
        whole, answers = totals(one.whole for one in self._batches.values()), self.answers
        low, high = (None, None) if answers is None else wilson(answers.same, answers.n)
        return Parity(
            reference=self.reference,
            precision=self.precision,
            n=max(one.n for one in self._batches.values()),
            max_abs=whole.largest,
            mean_abs=None if whole.largest is None else whole.abs_sum / whole.numbers,
            cosine=whole.cosine,
            snr_db=_smallest(figures, "snr_db"),
            centred_db=_smallest(figures, "centred_db"),
            identical=whole.identical and not self._failed,
            top1_agreement=None if answers is None else answers.same / answers.n,
            top1_low=low,
            top1_high=high,
            disagreements=0 if answers is None else answers.changed,
            ties=0 if answers is None else answers.ties,
            nan=whole.nan,
            reference_nan=whole.reference_nan,
            by_batch=tuple(by_batch),
            groups=tuple(
                joined(one.outputs[name].channels for one in self._batches.values() if name in one.outputs).parity(
                    name, group
                )
                for name, found in groups.items()
                for group in found
            ),
            figures=_worst_of(figures),
            broken=tuple(broken),
            answers=answers,
            decisions=self._decisions(),
            worst=tuple(item[-1] for item in sorted(self._worst, key=lambda item: item[:4], reverse=True)),
            ok=not reasons,
            reasons=tuple(reasons),
        )

    def _groups(self) -> dict[str, tuple[Group, ...]]:
        """Of each output, by the reference's numbers at all batch sizes."""
        return {
            name: groups_of(
                joined(one.outputs[name].channels for one in self._batches.values() if name in one.outputs),
                classes=self.classes,
            )
            for name in self.names
        }

    def _figures(self, found: _Batch, groups: dict[str, tuple[Group, ...]]) -> list[Figure]:
        """What one batch size is judged by; identical groups have nothing to judge."""
        told = list[Figure]()
        for name, output in found.outputs.items():
            of = f"output {name!r}" if len(self.names) > 1 or len(groups[name]) > 1 else ""
            if output.integers:
                told.append(Figure("equal", f"output {name!r}", output.equal / output.integers))
            for group in groups[name]:
                one = output.channels.parity(name, group)
                where = f"{of} channels {one['channels']}" if of and one["channels"] else of
                if one["identical"]:
                    continue
                if not group.judged:
                    kind, noise = (
                        output.channels.power(*what) for what in (("signal", group.kind), ("noise", group.channels))
                    )
                    told.append(Figure("snr_db", f"{where} against the others", decibels(kind, noise)))
                    continue
                told.append(Figure("snr_db", where, one["snr_db"]))
                if one["centred_db"] is not None:
                    told.append(Figure("centred_db", where, one["centred_db"]))
        return told


def compare(
    reference: np.ndarray, candidate: np.ndarray, precision: str, *, name: str = "reference", batch: int | None = None
) -> Parity:
    """The parity of two arrays of outputs.

    ``reference``: ``[N, C]`` (or ``[N, …]``), any float dtype. ``candidate``: the same shape. ``precision``: whose
    budget applies. ``batch``: the batch size the candidate ran with; default N.

    Raises:
        BadInput: shapes differ, no rows, or an unknown precision.
    """
    meter = ParityMeter(name, precision)
    meter.add([np.asarray(reference)], [np.asarray(candidate)], batch=batch or max(len(reference), 1))
    return meter.result()


def _broken(sums: Sums, reference: str) -> list[str]:
    if sums.numbers == 0:
        return ["the outputs are empty"]
    if sums.reference_nan:
        return [f"{sums.reference_nan} numbers of the reference {reference} are NaN or infinite"]
    if sums.nan:
        return [f"{sums.nan} of {sums.numbers} numbers are NaN or infinite"]
    return []


def _worst_of(figures: Sequence[Figure]) -> tuple[Figure, ...]:
    """The smallest of each kind; one without a value is smaller than any."""
    kinds = dict.fromkeys(one.kind for one in figures)
    return tuple(
        min((one for one in figures if one.kind == kind), key=lambda one: -math.inf if one.value is None else one.value)
        for kind in kinds
    )


def _smallest(figures: Sequence[Figure], kind: str) -> float | None:
    return next((one.value for one in _worst_of(figures) if one.kind == kind), None)
