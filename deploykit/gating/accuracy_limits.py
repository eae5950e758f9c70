"""Limits on what a variant answers: image by image where both variants saw the same images."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from deploykit.gating.evidence import Answers, Evidence
from deploykit.gating.question import Question, failed
from deploykit.reporting.schema import Accuracy
from deploykit.stats.multiple_tests import factor_needed
from deploykit.stats.paired import score_interval
from deploykit.stats.proportions import paired_p, proportion_p, unpaired_interval, unpaired_p, wilson

LOGITS, COUNTS, UNPAIRED = "logits", "the stated counts", "both stated accuracies, images not paired"


def max_drop_pt(evidence: Evidence, name: str, limit: float) -> Question:
    """Drop of top-1 against the report's own baseline variant, on the same images."""
    rule, accuracy = "max_drop_pt", _accuracy(evidence, name)
    if accuracy is None:
        return failed(name, rule, "its accuracy was not measured", limit)
    ours, base = evidence.answers.get(name), evidence.answers.get(evidence.baseline or "")
    if ours is not None and base is not None and np.array_equal(ours.labels, base.labels):
        return _paired(name, rule, limit, ours, base)
    if accuracy.drop_pt is None or accuracy.negative_flips is None:
        return failed(name, rule, "it was not compared with the baseline variant", limit)
    n = accuracy.n
    lost = round(accuracy.negative_flips * n)
    won = lost - round(accuracy.drop_pt / 100 * n)
    if lost < 0 or won < 0 or lost + won > n:
        return failed(name, rule, "its stated drop and flips cannot both be true", limit)
    return _drop(name, rule, limit, lost, won, n, COUNTS)


def max_drop_pt_vs_baseline(new: Evidence, old: Evidence, name: str, limit: float) -> Question:
    """Drop of top-1 against the same variant of the older report: paired where both have their logits."""
    rule, now, before = "max_drop_pt_vs_baseline", _accuracy(new, name), _accuracy(old, name)
    if now is None:
        return failed(name, rule, "its accuracy was not measured", limit)
    if before is None:
        return failed(name, rule, "the baseline report has no accuracy of it", limit)
    ours, base = new.answers.get(name), old.answers.get(name)
    if ours is not None and base is not None and np.array_equal(ours.labels, base.labels):
        return _paired(name, rule, limit, ours, base)
    rates = before.top1 * before.n, before.n, now.top1 * now.n, now.n

    def grown_p(factor: float) -> float:
        right, n, right_now, n_now = (factor * one for one in rates)
        return unpaired_p(right, n, right_now, n_now, limit / 100)

    def interval(level: float) -> tuple[float, float]:
        low, high = unpaired_interval(*rates, level)
        return 100 * low, 100 * high

    return Question(
        name,
        rule,
        limit,
        100 * (before.top1 - now.top1),
        True,
        interval,
        lambda: grown_p(1.0),
        _more(grown_p, now.n),
        source=UNPAIRED,
    )


def drop_between(evidence: Evidence, name: str, other: str, limit: float) -> Question:
    """Drop of top-1 against another variant of the same report, on the same images."""
    rule, ours, base = "max_drop_pt_vs_baseline", evidence.answers.get(name), evidence.answers.get(other)
    if ours is None or base is None or not np.array_equal(ours.labels, base.labels):
        return failed(name, rule, f"the logits of it and of {other} are not there", limit)
    return _paired(name, rule, limit, ours, base)


def _paired(name: str, rule: str, limit: float, ours: Answers, base: Answers) -> Question:
    lost = int(np.count_nonzero(base.right & ~ours.right))
    won = int(np.count_nonzero(ours.right & ~base.right))
    if ours.digest == base.digest:
        return Question(name, rule, limit, 0.0, True, exact=True, source="logits, identical")
    return _drop(name, rule, limit, lost, won, len(ours.labels), LOGITS)


def _drop(name: str, rule: str, limit: float, lost: int, won: int, n: int, source: str) -> Question:
    def interval(level: float) -> tuple[float, float]:
        low, high = score_interval(lost, won, n, level)
        return 100 * low, 100 * high

    return Question(
        name,
        rule,
        limit,
        100 * (lost - won) / n,
        True,
        interval,
        lambda: paired_p(lost, won, n, limit / 100),
        _more(lambda k: paired_p(lost * k, won * k, n * k, limit / 100), n),
        source=source,
    )


def min_top1(evidence: Evidence, name: str, limit: float) -> Question:
    """Share of images answered right."""
    return _share(evidence, name, "min_top1", limit, "top1", most=False)


def min_agreement(evidence: Evidence, name: str, limit: float) -> Question:
    """Share of images answered as the baseline variant does."""
    return _share(evidence, name, "min_agreement", limit, "agreement", most=False)


def max_negative_flips(evidence: Evidence, name: str, limit: float) -> Question:
    """Share of images that the baseline variant gets right and this one wrong."""
    return _share(evidence, name, "max_negative_flips", limit, "negative_flips", most=True)


def _share(evidence: Evidence, name: str, rule: str, limit: float, key: str, *, most: bool) -> Question:
    accuracy = _accuracy(evidence, name)
    share: float | None = getattr(accuracy, key) if accuracy else None
    if accuracy is None or share is None:
        return failed(name, rule, "it was not measured", limit)
    n = accuracy.n
    hits = round(share * n)
    return Question(
        name,
        rule,
        limit,
        hits / n,
        most,
        lambda level: wilson(hits, n, level),
        lambda: proportion_p(hits, n, limit),
        _more(lambda k: proportion_p(hits * k, n * k, limit), n),
        source=LOGITS if name in evidence.answers else COUNTS,
    )


def _accuracy(evidence: Evidence, name: str) -> Accuracy | None:
    """The variant's accuracy; None where there is none, or none of any image."""
    accuracy = evidence.variants[name].accuracy
    return accuracy if accuracy and accuracy.n > 0 else None


def _more(p_value: Callable[[float], float], n: int) -> Callable[[float], str | None]:
    def told(alpha: float) -> str | None:
        factor = factor_needed(p_value, alpha)
        return None if factor is None else f"about {max(1, math.ceil((factor - 1) * n)):,} more images"

    return told
