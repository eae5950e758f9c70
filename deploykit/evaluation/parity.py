"""Parity: does an engine still compute what the reference computes, image by image and number by number.

Definitions, for reference r and candidate c over all numbers of all images:

* SNR in dB = 10 log10(Σ r² / Σ (c − r)²); 3 dB more is half the noise power. Identical outputs have none (``None``).
  It is taken in each group of numbers of like scale (:mod:`deploykit.evaluation.output_groups`), and the smallest counts.
* The SNR of what depends on the image has Σ (r − mean of r)² above the line, the mean being that of its channel over all
  images: a large constant part may not hide that the rest is lost.
* cosine = Σ r·c / (‖r‖ ‖c‖).
* top-1 agreement = share of images with the same largest logit (:mod:`deploykit.evaluation.confident_answers`).
* Outputs of integers (class maps, labels) have the share of equal ones instead.

Parity holds where each figure reaches the budget of the precision at every batch size. Whether an int8 engine may be used
is judged by its answers too: :mod:`deploykit.evaluation.judge`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from deploykit.evaluation.confident_answers import Answers
from deploykit.evaluation.output_groups import GroupParity
from deploykit.evaluation.snr import BUDGETS, Figure


class WorstImage(TypedDict):
    """A image that differs most, at a batch size; its classes where the output is one of classes."""

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
        n: number of images.
        max_abs: largest absolute difference; None where a number is NaN or infinite.
        snr_db: smallest of any group; None where identical, or where it has no finite value.
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
        n: number of different images.
        max_abs: largest absolute difference; None where a number is NaN or infinite.
        mean_abs: mean absolute difference.
        cosine: cosine similarity of all numbers; None where one side is all zero.
        snr_db: smallest of any group; None where identical, or where it has no finite value.
        centred_db: the same of the part that depends on the image.
        identical: every number is equal.
        top1_agreement: ratio at the batch size that ran the most images; None where the output is not one of classes.
        top1_low: lower end of its 95 % Wilson interval.
        top1_high: upper end.
        disagreements: images whose class changed there, ties not counted.
        ties: images whose class changed and whose reference could not tell the two apart.
        nan: how many numbers of the candidate are NaN or infinite.
        reference_nan: the same of the reference.
        by_batch: one entry per batch size.
        groups: how near each group of each output is.
        figures: the smallest of each kind; nothing where all is identical.
        broken: what no budget lifts: NaN, empty outputs, a batch size that does not run.
        answers: of both at the batch size that ran the most images; None where the output is not one of classes.
        decisions: how many of how many are the same at 0.5, over outputs ``[N, C]`` of numbers in [0, 1]; None where there
            are none, or the output is one of classes.
        worst: the images that differ most.
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
    centred_db: float | None
    identical: bool
    top1_agreement: float | None
    top1_low: float | None
    top1_high: float | None
    disagreements: int
    ties: int
    nan: int
    reference_nan: int
    by_batch: tuple[BatchParity, ...]
    groups: tuple[GroupParity, ...]
    figures: tuple[Figure, ...]
    broken: tuple[str, ...]
    answers: Answers | None
    decisions: tuple[int, int] | None
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
            "centred_db": self.centred_db,
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
            "budget": {"snr_db": budget.snr_db, "centred_db": budget.centred_db},
            "top1_agreement_low": self.top1_low,
            "top1_agreement_high": self.top1_high,
            "disagreements": self.disagreements,
            "ties": self.ties,
            "nan": self.nan,
            "reference_nan": self.reference_nan,
            "groups": list(self.groups),
            "worst": list(self.worst),
            "reasons": list(self.reasons),
        }
