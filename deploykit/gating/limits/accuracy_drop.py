"""``max_drop_pt`` and ``max_drop_pt_vs_baseline``: top-1 that was lost, image by image where both saw the same ones."""

from __future__ import annotations

import numpy as np

from deploykit.gating.evidence import Answers
from deploykit.gating.limits.answer_shares import COUNTS, LOGITS, accuracy_of, more_images
from deploykit.gating.question import Case, Question, undecided
from deploykit.stats.paired import score_interval
from deploykit.stats.proportions import paired_p, proportion_p, unpaired_interval, unpaired_p, wilson

UNPAIRED = "both stated accuracies, images not paired"


def max_drop_pt(case: Case) -> Question:
    """Drop of top-1 against the report's own baseline variant, on the same images."""
    accuracy = accuracy_of(case.new, case.name)
    if accuracy is None:
        return _by_answers(case)
    ours, base = case.new.answers.get(case.name), case.new.answers.get(case.new.baseline or "")
    if ours is not None and base is not None and np.array_equal(ours.labels, base.labels):
        return _paired(case, ours, base)
    if accuracy.drop_pt is None or accuracy.negative_flips is None:
        return case.failed("it was not compared with the baseline variant")
    n = accuracy.n
    lost = round(accuracy.negative_flips * n)
    won = lost - round(accuracy.drop_pt / 100 * n)
    if lost < 0 or won < 0 or lost + won > n:
        return case.failed("its stated drop and flips cannot both be true")
    return _drop(case, lost, won, n, COUNTS)


def _by_answers(case: Case) -> Question:
    """Without labels: other answers than the baseline variant's bound the drop, so that few of them pass and many tell nothing."""
    quality = case.new.variants[case.name].quality
    if quality is None or quality.metric != "agreement" or not quality.n:
        return case.failed("its accuracy was not measured")
    n, limit = quality.n, case.limit
    other = round((1 - quality.value) * n)
    if 100 * other / n > limit:
        why = f"{other} of {n} answers changed, and without labels nothing says how many of them were right"
        return undecided(case.name, case.rule, why, limit, 100 * other / n)

    def interval(level: float) -> tuple[float, float]:
        low, high = wilson(other, n, level)
        return 100 * low, 100 * high

    return Question(
        case.name,
        case.rule,
        limit,
        100 * other / n,
        True,
        interval,
        lambda: proportion_p(other, n, limit / 100),
        more_images(lambda k: proportion_p(other * k, n * k, limit / 100), n),
        source="changed answers, which no drop exceeds",
    )


def max_drop_pt_vs_baseline(case: Case) -> Question:
    """Drop of top-1 against the same variant of the older report: paired where both have their logits."""
    if case.beside is not None:
        return _beside(case, case.beside)
    assert case.old is not None
    name, limit = case.name, case.limit
    now, before = accuracy_of(case.new, name), accuracy_of(case.old, name)
    if now is None:
        return case.failed("its accuracy was not measured")
    if before is None:
        return case.failed("the baseline report has no accuracy of it")
    ours, base = case.new.answers.get(name), case.old.answers.get(name)
    if ours is not None and base is not None and np.array_equal(ours.labels, base.labels):
        return _paired(case, ours, base)
    rates = before.top1 * before.n, before.n, now.top1 * now.n, now.n

    def grown_p(factor: float) -> float:
        right, n, right_now, n_now = (factor * one for one in rates)
        return unpaired_p(right, n, right_now, n_now, limit / 100)

    def interval(level: float) -> tuple[float, float]:
        low, high = unpaired_interval(*rates, level)
        return 100 * low, 100 * high

    return Question(
        name,
        case.rule,
        limit,
        100 * (before.top1 - now.top1),
        True,
        interval,
        lambda: grown_p(1.0),
        more_images(grown_p, now.n),
        source=UNPAIRED,
    )


def _beside(case: Case, other: str) -> Question:
    """Drop of top-1 against another variant of the same report, on the same images."""
    ours, base = case.new.answers.get(case.name), case.new.answers.get(other)
    if ours is None or base is None or not np.array_equal(ours.labels, base.labels):
        return case.failed(f"the logits of it and of {other} are not there")
    return _paired(case, ours, base)


def _paired(case: Case, ours: Answers, base: Answers) -> Question:
    lost = int(np.count_nonzero(base.right & ~ours.right))
    won = int(np.count_nonzero(ours.right & ~base.right))
    if ours.digest == base.digest:
        return Question(case.name, case.rule, case.limit, 0.0, True, exact=True, source="logits, identical")
    return _drop(case, lost, won, len(ours.labels), LOGITS)


def _drop(case: Case, lost: int, won: int, n: int, source: str) -> Question:
    limit = case.limit

    def interval(level: float) -> tuple[float, float]:
        low, high = score_interval(lost, won, n, level)
        return 100 * low, 100 * high

    return Question(
        case.name,
        case.rule,
        limit,
        100 * (lost - won) / n,
        True,
        interval,
        lambda: paired_p(lost, won, n, limit / 100),
        more_images(lambda k: paired_p(lost * k, won * k, n * k, limit / 100), n),
        source=source,
    )
