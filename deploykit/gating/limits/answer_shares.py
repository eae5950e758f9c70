"""``min_top1``, ``min_agreement`` and ``max_negative_flips``: shares of the images, by what a variant answers."""

from __future__ import annotations

import math
from collections.abc import Callable

from deploykit.gating.evidence import Evidence
from deploykit.gating.question import Case, Question
from deploykit.reporting.quality import Accuracy
from deploykit.stats.multiple_tests import factor_needed
from deploykit.stats.proportions import proportion_p, wilson

LOGITS, COUNTS = "logits", "the stated counts"


def min_top1(case: Case) -> Question:
    """Share of images answered right."""
    return _share(case, "top1", most=False)


def min_agreement(case: Case) -> Question:
    """Share of images answered as the baseline variant does."""
    return _share(case, "agreement", most=False)


def max_negative_flips(case: Case) -> Question:
    """Share of images that the baseline variant gets right and this one wrong."""
    return _share(case, "negative_flips", most=True)


def _share(case: Case, key: str, *, most: bool) -> Question:
    accuracy = accuracy_of(case.new, case.name)
    share: float | None = getattr(accuracy, key) if accuracy else None
    if accuracy is None or share is None:
        return case.failed("it was not measured")
    n, limit = accuracy.n, case.limit
    hits = round(share * n)
    return Question(
        case.name,
        case.rule,
        limit,
        hits / n,
        most,
        lambda level: wilson(hits, n, level),
        lambda: proportion_p(hits, n, limit),
        more_images(lambda k: proportion_p(hits * k, n * k, limit), n),
        source=LOGITS if case.name in case.new.answers else COUNTS,
    )


def accuracy_of(evidence: Evidence, name: str) -> Accuracy | None:
    """The variant's accuracy; None where there is none, or none of any image."""
    accuracy = evidence.variants[name].accuracy
    return accuracy if accuracy and accuracy.n > 0 else None


def more_images(p_value: Callable[[float], float], n: int) -> Callable[[float], str | None]:
    """From alpha to how many more images would decide, where ``p_value`` of ``k`` times as many (of ``n``) is known."""

    def told(alpha: float) -> str | None:
        factor = factor_needed(p_value, alpha)
        return None if factor is None else f"about {max(1, math.ceil((factor - 1) * n)):,} more images"

    return told
