"""What a report says of a variant's answers: quality, accuracy, closeness to its reference, and what its status rests on."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from deploykit.reporting.part import Count, InsidePath, NotNegative, Part, Points, Ratio, ordered


class ClassScore(Part):
    """One class: its images and scores; agreement and flips compare its images with the baseline's answers."""

    name: str
    n: Count
    precision: Ratio
    recall: Ratio
    f1: Ratio
    agreement: Ratio | None = None
    negative_flips: Ratio | None = None


class Bin(Part):
    """Images whose confidence lies in (low, high]: how sure the model was of them, and how often right."""

    low: Ratio
    high: Ratio
    n: Count
    confidence: Ratio
    accuracy: Ratio


class Confused(Part):
    """How often images of ``label`` were taken for ``predicted``."""

    label: str
    predicted: str
    n: Count


class Flip(Part):
    """An image that the baseline gets right and the variant wrong; ``image`` is its number in the split."""

    image: Count
    label: str
    base: str
    predicted: str
    confidence: Ratio
    picture: InsidePath | None = None


class Robustness(Part):
    """Accuracy on corrupted images, and the drop against the baseline on the same ones."""

    corruption: str
    strength: Annotated[int, Field(ge=1)]
    n: Count
    top1: Ratio
    top1_low: Ratio | None = None
    top1_high: Ratio | None = None
    drop_pt: Points | None = None
    drop_pt_low: Points | None = None
    drop_pt_high: Points | None = None


class Quality(Part):
    """The main figure of the report's task on ``n`` images of ``split``, and what was lost against the baseline on them.

    ``metric`` is ``top1`` of a classifier with labels, and then follows from its accuracy; without labels it is
    ``agreement`` with the baseline's answers, and the drop the share of other answers, which no loss of top-1 exceeds.
    """

    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    drop_pt: Points | None = None
    drop_pt_low: Points | None = None
    drop_pt_high: Points | None = None
    n: Count
    split: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        ordered("low, value, high", self.low, self.value, self.high)
        ordered("drop_pt_low, drop_pt_high", self.drop_pt_low, self.drop_pt_high)
        return self


class JudgedAmong(Part):
    """The only classes that answers were chosen among, of all ``of`` that the network knows."""

    classes: list[str]
    of: Count


class Kept(Part):
    """Of ``n`` images, how many have their answer still; ``low`` and ``high`` hold the share."""

    n: Count
    kept: Count
    share: Ratio | None = None
    low: Ratio | None = None
    high: Ratio | None = None


class Verdict(Part):
    """What the status was decided by, on images of ``split``, against the variant's own network in float.

    ``agreement`` is of all answers, ``confident`` of those that the network is sure of; ``more_images`` would settle it.
    """

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    status: Literal["ok", "unsure", "failed"]
    reasons: list[str] = Field(default_factory=list)
    accepted: bool = False
    snr_db: float | None = None
    agreement: Kept | None = None
    confident: Kept | None = None
    more_images: Count | None = None
    split: str | None = None


class Accuracy(Part):
    """Accuracy on ``n`` images of ``split``; drop, agreement, flips and p compare with the baseline on the same images."""

    n: Count
    split: str | None = None
    top1: Ratio
    top1_low: Ratio | None = None
    top1_high: Ratio | None = None
    top5: Ratio | None = None
    macro_f1: Ratio | None = None
    macro_precision: Ratio | None = None
    macro_recall: Ratio | None = None
    ece: Ratio | None = None
    drop_pt: Points | None = None
    drop_pt_low: Points | None = None
    drop_pt_high: Points | None = None
    drop_interval: Literal["bootstrap", "score", "exact"] | None = None
    agreement: Ratio | None = None
    negative_flips: Ratio | None = None
    mcnemar_p: Ratio | None = None
    metrics: dict[str, float | None] = Field(default_factory=dict)
    per_class: list[ClassScore] | None = None
    confusion: list[list[Count]] | None = None
    confused: list[Confused] = Field(default_factory=list)
    reliability: list[Bin] = Field(default_factory=list)
    flips: list[Flip] | None = None
    robustness: list[Robustness] = Field(default_factory=list)
    logits_file: InsidePath | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        ordered("top1_low, top1, top1_high", self.top1_low, self.top1, self.top1_high)
        ordered("drop_pt_low, drop_pt_high", self.drop_pt_low, self.drop_pt_high)
        if self.confusion is not None and any(len(row) != len(self.confusion) for row in self.confusion):
            raise ValueError("confusion is no square matrix of labels by answers")
        return self


def quality_of(accuracy: Accuracy) -> Quality:
    """The quality of a classifier with labels: its top-1 and the drop of it."""
    return Quality(
        metric="top1",
        value=accuracy.top1,
        low=accuracy.top1_low,
        high=accuracy.top1_high,
        drop_pt=accuracy.drop_pt,
        drop_pt_low=accuracy.drop_pt_low,
        drop_pt_high=accuracy.drop_pt_high,
        n=accuracy.n,
        split=accuracy.split,
    )


class Parity(Part):
    """How close the outputs are to eager fp32 of the same network; an infinite SNR is null with ``identical``."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)

    reference: str
    n: Count
    split: str | None = None
    max_abs: NotNegative | None = None
    mean_abs: NotNegative | None = None
    cosine: float | None = None
    snr_db: float | None = None
    identical: bool | None = None
    top1_agreement: Ratio | None = None
    by_batch: list[dict[str, Any]] = Field(default_factory=list)
    ok: bool
