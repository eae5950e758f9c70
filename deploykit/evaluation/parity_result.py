"""What a comparison of two engines found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deploykit.evaluation.budgets import BUDGETS


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
        outputs: one entry per output where there are several: name, max_abs, snr_db.
        worst: the pictures that differ most: index, batch, reference_class, candidate_class, max_abs, snr_db.
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
    outputs: tuple[dict[str, Any], ...]
    worst: tuple[dict[str, Any], ...]
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
