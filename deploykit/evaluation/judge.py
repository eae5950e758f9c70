"""The one judge of what an engine computes: ``ok``, ``unsure`` or ``failed``, by what is known and not by a dozen images.

* Every engine is held to its precision's SNR, in each group of numbers of like scale of each output
  (:mod:`deploykit.evaluation.parity`). That alone decides fp32, tf32, fp16 and bf16; their agreement is shown.
* int8 and fp8 are judged by the confident answers kept as well (:mod:`deploykit.evaluation.confident_answers`): at least
  ``LEAST_KEPT`` of them, by the exact interval of the share. All of it above the bar: ok; all below: failed; else, or with
  fewer than ``FEW_CONFIDENT`` confident images: unsure. Networks without answers are judged by SNR alone.
* It is looked at ``LOOKS`` times, and no further images are run once it is settled; the intervals hold together at
  ``LEVEL`` (Bonferroni).
* ``Bars`` set the bars by hand. What stands against one of them with confidence has failed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from deploykit.evaluation.confident_answers import Answers
from deploykit.evaluation.judging_images import LOOKS
from deploykit.evaluation.parity import Parity
from deploykit.evaluation.snr import Figure, budget_of, too_small
from deploykit.stats.proportions import clopper_pearson

Status = Literal["ok", "unsure", "failed"]
LEAST_KEPT = 0.90
FEW_CONFIDENT = 30
FEW_IMAGES = 8
"""What an int8 network without answers must be judged on at least."""
LEVEL = 0.95
EACH = 1 - (1 - LEVEL) / len(LOOKS)
BY_ANSWERS = ("int8", "fp8")
"""Precisions that are judged by answers too; the others only where ``Bars`` name a share."""
_MOST_MORE = 100_000


@dataclass(frozen=True)
class Bars:
    """What is asked for, where not the default of the precision.

    Attributes:
        min_agreement: share of the confident answers that must be kept, 0…1.
        min_snr_db: SNR that each group must reach, in dB.
        max_drop_pt: accuracy that may be lost, in percentage points; held against a drop that was measured.
        accept: what is unsure or failed is taken all the same.
    """

    min_agreement: float | None = None
    min_snr_db: float | None = None
    max_drop_pt: float | None = None
    accept: bool = False


@dataclass(frozen=True)
class Drop:
    """Accuracy lost against the original on the same images, with its interval, in percentage points."""

    drop_pt: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Share:
    """Answers that are still the same: ``kept`` of ``n``, with the interval of the share; of confident ones ties are kept."""

    n: int
    kept: int
    share: float | None
    low: float | None
    high: float | None

    def interval(self) -> str:
        """For people."""
        return "" if self.low is None else f" ({self.share:.3f}, interval {self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Verdict:
    """What an engine is judged to be, and by what.

    Attributes:
        status: ``ok``, ``unsure`` or ``failed``.
        reasons: why not ok, in words.
        accepted: it is taken although it is not ok; the status stays.
        precision: whose budget applied.
        figures: the smallest figure of each kind, over all outputs, groups and batch sizes.
        broken: what no bar lifts: NaN, empty outputs, a batch size that does not run.
        agreement: of all answers, or of the decisions at 0.5 of a head of several labels; None where the outputs are neither.
        confident: of the answers that the reference is sure of.
        drop: of accuracy, where it was measured.
        images: that it was judged on.
        more_images: how many more would settle it, as far as can be told.
        split: whose images.
    """

    status: Status
    reasons: tuple[str, ...]
    accepted: bool
    precision: str
    figures: tuple[Figure, ...]
    broken: tuple[str, ...]
    agreement: Share | None
    confident: Share | None
    drop: Drop | None
    images: int
    more_images: int | None = None
    split: str | None = None

    @property
    def ok(self) -> bool:
        """Whether it may be used: it is ok, or accepted as it is."""
        return self.status == "ok" or self.accepted

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, for manifests, reports and ``--json``; :func:`verdict_of` reads it back."""
        fields = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {**fields, "snr_db": next((one.value for one in self.figures if one.kind == "snr_db"), None)}

    def headline(self) -> str:
        """The status, for people; what is not ok stands out."""
        return (self.status if self.status == "ok" else self.status.upper()) + (", accepted" if self.accepted else "")

    def line(self) -> str:
        """In one line, for people: status, figures, whose images, and why."""
        parts = [one.told() for one in self.figures if one.kind != "centred_db"]
        parts += [] if parts or self.broken else ["identical"]
        if self.confident is not None and self.confident.n:
            parts.append(f"{self.confident.kept} of {self.confident.n} confident answers kept")
        if self.agreement is not None:
            parts.append(f"{self.agreement.kept} of all {self.agreement.n}")
        where = f"on {self.images} images" + (f" of {self.split}" if self.split else "")
        why = f": {'; '.join(self.reasons)}" if self.reasons else ""
        return f"{self.headline()} ({' '.join(filter(None, (', '.join(parts), where)))}){why}"


def judge(
    parity: Parity,
    answers: Answers | None,
    precision: str,
    bars: Bars = Bars(),
    *,
    drop: Drop | None = None,
    split: str | None = None,
) -> Verdict:
    """Judge what was measured.

    Args:
        parity: with the reference.
        answers: of the two; None where the outputs are no classes.
        precision: whose budget applies.
        bars: set by hand.
        drop: of accuracy, where it was measured.
        split: whose images these were.

    Raises:
        BadInput: an unknown precision.
    """
    seen = Verdict(
        status="ok",
        reasons=(),
        accepted=False,
        precision=precision,
        figures=parity.figures,
        broken=parity.broken,
        agreement=_agreement(parity, answers),
        confident=None if answers is None else _share(answers.kept, answers.confident),
        drop=drop,
        images=parity.n,
        split=split,
    )
    return judged_again(seen, bars)


def judged_again(seen: Verdict, bars: Bars) -> Verdict:
    """The same figures held to other bars, nothing run again."""
    budget = budget_of(seen.precision)
    if bars.min_snr_db is not None:
        budget = replace(budget, snr_db=bars.min_snr_db)
    failed, unsure, more = [*seen.broken, *too_small(seen.figures, seen.precision, budget)], list[str](), None
    least = bars.min_agreement
    if least is None and seen.precision in BY_ANSWERS and seen.confident is not None:
        least = LEAST_KEPT
    if least is not None and (confident := seen.confident) is not None:
        by, why = _by_answers(confident, least)
        if by == "unsure":
            more = _more_images(confident, least, seen.images)
            told = "" if more is None else f": {more} more images would settle it, as things stand"
            unsure.append(why + told)
        elif by == "failed":
            failed.append(why)
    elif seen.precision in BY_ANSWERS and seen.images < FEW_IMAGES and not failed:
        more = FEW_IMAGES - seen.images
        unsure.append(f"judged on few images: {more} more are needed")
    if bars.max_drop_pt is not None and (drop := seen.drop) is not None:
        told = f"accuracy drops by {drop.drop_pt:.2f} points ({drop.low:.2f} to {drop.high:.2f} on {drop.n} images)"
        if drop.low > bars.max_drop_pt:
            failed.append(f"{told}, at most {bars.max_drop_pt:g} allowed")
        elif drop.high > bars.max_drop_pt:
            unsure.append(f"{told}, which may be more than the {bars.max_drop_pt:g} allowed")
    status: Status = "failed" if failed else "unsure" if unsure else "ok"
    return replace(
        seen,
        status=status,
        reasons=(*failed, *unsure),
        accepted=bars.accept and status != "ok",
        more_images=more if status == "unsure" else None,
    )


def verdict_of(fields: Mapping[str, Any]) -> Verdict:
    """What :meth:`Verdict.to_dict` gave, read back."""
    kinds = {"agreement": Share, "confident": Share, "drop": Drop}
    read: dict[str, Any] = {
        name: None if fields[name] is None else kind(**fields[name]) for name, kind in kinds.items()
    }
    read |= {name: tuple(fields[name]) for name in ("reasons", "broken")}
    read["figures"] = tuple(Figure(**one) for one in fields["figures"])
    return Verdict(**{key: read.get(key, value) for key, value in fields.items() if key != "snr_db"})


def settles(precision: str, bars: Bars) -> Callable[[Answers | None], bool]:
    """Tells of answers so far whether more images would change nothing: the interval lies on one side of the bar."""
    least = bars.min_agreement if bars.min_agreement is not None else LEAST_KEPT if precision in BY_ANSWERS else None

    def settled(answers: Answers | None) -> bool:
        if least is None or answers is None:
            return True
        return _by_answers(_share(answers.kept, answers.confident), least)[0] != "unsure"

    return settled


def _by_answers(confident: Share, least: float) -> tuple[Status, str]:
    if confident.n < FEW_CONFIDENT or confident.low is None or confident.high is None:
        return "unsure", f"the original is sure of its answer to {confident.n} images only, {FEW_CONFIDENT} are needed"
    told = f"{confident.kept} of {confident.n} confident answers are kept{confident.interval()}"
    if confident.high < least:
        return "failed", f"{told}, expected at least {least:g}"
    return ("ok", told) if confident.low >= least else ("unsure", f"{told}, which may be less than {least:g}")


def _agreement(parity: Parity, answers: Answers | None) -> Share | None:
    if answers is not None:
        return _share(answers.same, answers.n)
    return None if parity.decisions is None else _share(*parity.decisions)


def _share(kept: int, n: int) -> Share:
    if not n:
        return Share(0, 0, None, None, None)
    low, high = clopper_pearson(kept, n, EACH)
    return Share(n, kept, kept / n, low, high)


def _more_images(confident: Share, least: float, images: int) -> int | None:
    """How many more would settle it if the share stays as it is; None where no number of them is likely to."""
    if not confident.n or confident.share is None:
        return None
    share, rate = confident.share, confident.n / images

    def told(n: int) -> bool:
        return n >= FEW_CONFIDENT and _by_answers(_share(round(share * n), n), least)[0] != "unsure"

    low, high = confident.n, 2 * confident.n
    while not told(high):
        low, high = high, 2 * high
        if high > _MOST_MORE:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if told(middle) else (middle, high)
    return math.ceil((high - confident.n) / rate)
