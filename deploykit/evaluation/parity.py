"""Parity: does an engine still compute what the reference computes, picture by picture and number by number.

Definitions, for reference r and candidate c over all numbers of all pictures:

* SNR in dB = 10 log10(Σ r² / Σ (c − r)²); 3 dB more is half the noise power. Identical outputs have none (``None``).
* cosine = Σ r·c / (‖r‖ ‖c‖).
* top-1 agreement = share of pictures with the same largest logit.

A picture whose reference cannot itself tell the two classes apart (their logits lie closer than ``TIE_RATIO`` times
the row's RMS: what another order of fp32 additions may move) is a tie, and a tie is no disagreement. With few pictures a ratio
such as 0.995 cannot be reached exactly: ``ceil((1 − budget) · n)`` disagreements are allowed, and never more than a
quarter of the pictures. Whether parity holds is decided by the SNR and this count together.

What a comparison of two engines found.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict

import numpy as np

from deploykit.base.errors import BadInput
from deploykit.evaluation.snr import BUDGETS, Budget, Sums, allowed_disagreements, budget_of, joined
from deploykit.stats.proportions import wilson


class OutputParity(TypedDict):
    """Parity of one output of several."""

    name: str
    max_abs: float | None
    snr_db: float | None
    identical: bool


class WorstImage(TypedDict):
    """A picture that differs most, at a batch size; its classes where the output is one of classes."""

    index: int
    batch: int
    reference_class: NotRequired[int]
    candidate_class: NotRequired[int]
    max_abs: NotRequired[float | None]
    snr_db: NotRequired[float | None]


@dataclass(frozen=True)
class BatchParity:
    """Parity at one batch size.

    Attributes:
        batch: the batch size that the candidate ran.
        n: number of pictures.
        max_abs: largest absolute difference; None where a number is NaN or infinite.
        snr_db: None where identical, or where it has no finite value.
        identical: every number is equal.
        top1_agreement: ratio, or None where the output is not one of classes.
        ok: within the budget.
    """

    batch: int
    n: int
    max_abs: float | None
    snr_db: float | None
    identical: bool
    top1_agreement: float | None
    ok: bool


@dataclass(frozen=True)
class Parity:
    """Parity of a candidate with its reference over all batch sizes.

    Attributes:
        reference: name of the reference.
        precision: whose budget was applied.
        n: number of different pictures.
        max_abs: largest absolute difference; None where a number is NaN or infinite.
        mean_abs: mean absolute difference.
        cosine: cosine similarity of all numbers; None where one side is all zero.
        snr_db: None where identical, or where it has no finite value.
        identical: every number is equal.
        top1_agreement: ratio at the batch size that ran the most pictures; None where the output is not one of classes.
        top1_low: lower end of its 95 % Wilson interval.
        top1_high: upper end.
        disagreements: pictures whose class changed there, ties not counted.
        ties: pictures whose class changed and whose reference could not tell the two apart.
        nan: how many numbers of the candidate are NaN or infinite.
        reference_nan: the same of the reference.
        by_batch: one entry per batch size.
        outputs: one entry per output where there are several.
        worst: the pictures that differ most.
        ok: within the budget at every batch size.
        reasons: why not, in words.
    """

    reference: str
    precision: str
    n: int
    max_abs: float | None
    mean_abs: float | None
    cosine: float | None
    snr_db: float | None
    identical: bool
    top1_agreement: float | None
    top1_low: float | None
    top1_high: float | None
    disagreements: int
    ties: int
    nan: int
    reference_nan: int
    by_batch: tuple[BatchParity, ...]
    outputs: tuple[OutputParity, ...]
    worst: tuple[WorstImage, ...]
    ok: bool
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The ``parity`` block of a report: JSON-able, no NaN, no infinity."""
        return {
            "reference": self.reference,
            "n": self.n,
            "max_abs": self.max_abs,
            "mean_abs": self.mean_abs,
            "cosine": self.cosine,
            "snr_db": self.snr_db,
            "identical": self.identical,
            "top1_agreement": self.top1_agreement,
            "by_batch": [dict(vars(one)) for one in self.by_batch],
            "ok": self.ok,
        }

    def details(self) -> dict[str, Any]:
        """What ``deploykit verify --json`` tells beyond :meth:`to_dict`."""
        budget = BUDGETS[self.precision]
        return {
            "precision": self.precision,
            "budget": {"snr_db": budget.snr_db, "top1_agreement": budget.agreement},
            "top1_agreement_low": self.top1_low,
            "top1_agreement_high": self.top1_high,
            "disagreements": self.disagreements,
            "ties": self.ties,
            "nan": self.nan,
            "reference_nan": self.reference_nan,
            "outputs": list(self.outputs),
            "worst": list(self.worst),
            "reasons": list(self.reasons),
        }


__all__ = ["BUDGETS", "BatchParity", "Parity", "ParityMeter", "compare"]

TIE_RATIO = 2e-4
WORST = 5


@dataclass
class _Votes:
    n: int = 0
    same: int = 0
    ties: int = 0

    @property
    def wrong(self) -> int:
        return self.n - self.same - self.ties


@dataclass
class ParityMeter:
    """Collects outputs batch by batch and answers with a :class:`Parity`.

    ``precision``: whose budget applies. ``names``: of the outputs, in the reference's order.

    Raises:
        BadInput: an unknown precision.
    """

    reference: str
    precision: str
    names: tuple[str, ...] = ("output",)
    _sums: dict[int, Sums] = field(default_factory=dict)
    _votes: dict[int, _Votes] = field(default_factory=dict)
    _seen: dict[int, int] = field(default_factory=dict)
    _outputs: dict[str, Sums] = field(default_factory=dict)
    _worst: list[tuple[float, float, int, int, WorstImage]] = field(default_factory=list)
    _failed: dict[int, str] = field(default_factory=dict)
    _classes: bool = True

    def __post_init__(self) -> None:
        budget_of(self.precision)

    def add(
        self, reference: Sequence[np.ndarray], candidate: Sequence[np.ndarray], *, batch: int, first: int = 0
    ) -> None:
        """Add the outputs of the same pictures.

        ``reference``: one array per output, ``[N, …]``; the first is ``[N, C]`` for classifiers. ``candidate``: the
        same of the candidate. ``batch``: the batch size the candidate ran with. ``first``: index of the first picture.

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
            self.fail(batch, f"answers {max(rows)} rows for {len(reference[0])} pictures: a batch size is hard-coded")
            return
        total = self._sums.setdefault(batch, Sums())
        for name, r, c in zip(self.names, reference, candidate, strict=True):
            if r.shape != c.shape:
                raise BadInput(
                    f"output {name!r} has another shape at batch size {batch}",
                    got=list(c.shape),
                    expected=f"{list(r.shape)} as {self.reference} has",
                    fix="Compare artifacts of the same network, classes and input size.",
                )
            total.add(r, c)
            for group, part in groups_of(name, r).items():
                self._outputs.setdefault(group, Sums()).add(r[part], c[part])
        n = len(reference[0])
        self._seen[batch] = self._seen.get(batch, 0) + n
        self._classes = self._classes and reference[0].ndim == 2 and reference[0].shape[1] > 1
        self._vote(np.asarray(reference[0]), np.asarray(candidate[0]), batch, first)

    def fail(self, batch: int, reason: str) -> None:
        """Record that the candidate did not answer at this batch size."""
        self._failed.setdefault(batch, reason)

    def _vote(self, reference: np.ndarray, candidate: np.ndarray, batch: int, first: int) -> None:
        votes = self._votes.setdefault(batch, _Votes())
        for row, (r, c) in enumerate(zip(reference, candidate, strict=True)):
            picture = Sums()
            picture.add(r, c)
            entry: WorstImage = {"index": first + row, "batch": batch}
            wrong = False
            if self._classes:
                votes.n += 1
                mine, theirs = (int(np.argmax(r)), int(np.argmax(c))) if not picture.broken else (-1, -2)
                if mine >= 0:
                    entry["reference_class"], entry["candidate_class"] = mine, theirs
                tie = mine >= 0 and mine != theirs and float(r[mine]) - float(r[theirs]) <= TIE_RATIO * _rms(r)
                wrong = mine != theirs and not tie
                votes.same += mine == theirs
                votes.ties += tie
            if picture.identical:
                continue
            entry["max_abs"], entry["snr_db"] = None if picture.broken else picture.max_abs, picture.snr_db
            share = math.inf if picture.broken else picture.noise / max(picture.signal, 1e-300)
            item = (float(wrong), share, -entry["index"], -batch, entry)
            (heapq.heappush if len(self._worst) < WORST else heapq.heappushpop)(self._worst, item)

    def result(self) -> Parity:
        """The parity of everything added.

        Raises:
            BadInput: no pictures were added.
        """
        for batch in self._failed:
            self._seen.setdefault(batch, 0)
            self._sums.setdefault(batch, Sums())
            self._votes.setdefault(batch, _Votes())
        if not self._failed and not sum(self._seen.values()):
            raise BadInput("no pictures to compare on", fix="Give --data with at least one picture.")
        budget = budget_of(self.precision)
        by_batch, reasons = [], []
        for batch in sorted(self._seen):
            sums, votes = self._sums[batch], self._votes[batch]
            if batch in self._failed:
                why = [self._failed[batch]]
            else:
                why = _reasons(sums, votes if self._classes else None, budget, self.precision, self.reference)
            reasons += [f"batch {batch}: {reason}" for reason in why]
            by_batch.append(
                BatchParity(
                    batch=batch,
                    n=self._seen[batch],
                    max_abs=sums.largest,
                    snr_db=sums.snr_db,
                    identical=sums.identical,
                    top1_agreement=votes.same / votes.n if self._classes and votes.n else None,
                    ok=not why,
                )
            )
        several = len(self._outputs) > 1
        for name, sums in self._outputs.items() if several else ():
            if not sums.broken and _too_noisy(sums, budget):
                reasons.append(f"output {name!r}: SNR {_db(sums)}, expected at least {budget.snr_db:g} dB")
        whole = joined(self._sums.values())
        main = max(self._seen, key=lambda batch: (self._seen[batch], batch))
        votes = self._votes[main]
        judged = self._classes and votes.n > 0
        low, high = _interval(votes) if judged else (None, None)
        return Parity(
            reference=self.reference,
            precision=self.precision,
            n=max(self._seen.values()),
            max_abs=whole.largest,
            mean_abs=None if whole.largest is None else whole.abs_sum / whole.numbers,
            cosine=whole.cosine,
            snr_db=whole.snr_db,
            identical=whole.identical and not self._failed,
            top1_agreement=votes.same / votes.n if judged else None,
            top1_low=low,
            top1_high=high,
            disagreements=votes.wrong,
            ties=votes.ties,
            nan=whole.nan,
            reference_nan=whole.reference_nan,
            by_batch=tuple(by_batch),
            outputs=tuple(
                {"name": name, "max_abs": s.largest, "snr_db": s.snr_db, "identical": s.identical}
                for name, s in self._outputs.items()
            )
            if several
            else (),
            worst=tuple(item[-1] for item in sorted(self._worst, key=lambda item: item[:4], reverse=True)),
            ok=not reasons,
            reasons=tuple(reasons),
        )


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


def groups_of(name: str, output: np.ndarray) -> dict[str, Any]:
    """What of an output is judged by itself: name of the group → index into an array ``[N, …]`` like ``output``.

    The one place that says so. Numbers of unlike scale (a detector's boxes and scores) would be groups of their own; every
    output is one so far.
    """
    return {name: ...}


def _rms(row: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(row, dtype=np.float64))))


def _too_noisy(sums: Sums, budget: Budget) -> bool:
    return not sums.identical and (sums.snr_db is None or sums.snr_db < budget.snr_db)


def _db(sums: Sums) -> str:
    return "undefined (the reference is all zero)" if sums.snr_db is None else f"{sums.snr_db:.1f} dB"


def _reasons(sums: Sums, votes: _Votes | None, budget: Budget, precision: str, reference: str) -> list[str]:
    if sums.numbers == 0:
        return ["the outputs are empty"]
    if sums.reference_nan:
        return [f"{sums.reference_nan} numbers of the reference {reference} are NaN or infinite"]
    if sums.nan:
        return [f"{sums.nan} of {sums.numbers} numbers are NaN or infinite"]
    why = []
    if _too_noisy(sums, budget):
        why.append(f"SNR {_db(sums)}, expected at least {budget.snr_db:g} dB for {precision}")
    if votes is not None and votes.wrong > allowed_disagreements(votes.n, budget):
        why.append(
            f"top-1 differs on {votes.wrong} of {votes.n} pictures, "
            f"at most {allowed_disagreements(votes.n, budget)} allowed ({budget.agreement:g} for {precision})"
        )
    return why


def _interval(votes: _Votes) -> tuple[float, float]:
    return wilson(votes.same, votes.n)
