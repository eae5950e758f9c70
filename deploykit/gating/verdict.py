"""The verdict: Holm over all limits, and three answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from deploykit.gating.question import CANNOT_TELL, FAIL, PASS, Question
from deploykit.stats.multiple_tests import holm

EXIT_CODES = {PASS: 0, FAIL: 1, CANNOT_TELL: 3}


@dataclass(frozen=True)
class Finding:
    """One limit, judged.

    Attributes:
        variant: name.
        rule: of the policy, or what is wrong with the variant as a whole.
        verdict: ``pass``, ``fail`` or ``cannot_tell``.
        limit: in the rule's unit, or None.
        value: the estimate, or None.
        low: of the interval at ``level``, or None.
        high: of the interval.
        level: of the interval, after Holm; None for a number without a chance error.
        most: whether the limit is a maximum.
        p_value: that the true value is the limit; None as ``level``.
        more: what would settle it, or None.
        source: what it was judged from.
        reason: why, in words, where the numbers do not say it.
    """

    variant: str
    rule: str
    verdict: str
    limit: float | bool | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    most: bool = True
    p_value: float | None = None
    more: str | None = None
    source: str = ""
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able fields."""
        return asdict(self)


def judge(questions: Sequence[Question], confidence: float) -> list[Finding]:
    """Answer all questions together.

    Each limit with a chance error is a test whose hypothesis is that the true value is the limit. Where Holm's
    procedure over all of them rejects it, the whole interval at that level lies on one side, and the side decides; else
    the numbers do not tell. Numbers without a chance error are compared as they are and take no part in the family.

    Args:
        questions: all limits of one verdict.
        confidence: of the family.
    """
    tested = [one for one in questions if one.verdict is None and not one.exact]
    p_values = [one.p_value() for one in tested if one.p_value is not None]
    assert len(p_values) == len(tested)
    results = iter(zip(p_values, holm(p_values, 1 - confidence), strict=True))
    found = []
    for one in questions:
        if one.verdict is not None:
            found.append(_as_is(one, one.verdict))
        elif one.exact:
            found.append(_as_is(one, FAIL if one.beyond else PASS))
        else:
            p_value, result = next(results)
            found.append(_tested(one, p_value, rejected=result.rejected, alpha=result.alpha))
    return found


def _as_is(one: Question, verdict: str) -> Finding:
    return Finding(
        one.variant, one.rule, verdict, one.limit, one.value, most=one.most, source=one.source, reason=one.reason
    )


def _tested(one: Question, p_value: float, *, rejected: bool, alpha: float) -> Finding:
    assert one.interval is not None
    low, high = one.interval(1 - alpha)
    verdict = (FAIL if one.beyond else PASS) if rejected else CANNOT_TELL
    more, reason = None, one.reason
    if verdict == CANNOT_TELL:
        more = one.more(alpha) if one.more is not None else None
        reason = reason or ("" if more else "the estimate lies on the limit: no amount of measuring will tell")
    return Finding(
        one.variant,
        one.rule,
        verdict,
        one.limit,
        one.value,
        low,
        high,
        1 - alpha,
        one.most,
        p_value,
        more,
        one.source,
        reason,
    )


def overall(findings: Sequence[Finding]) -> str:
    """Any limit failed: ``fail``; else any undecided: ``cannot_tell``; else ``pass``."""
    verdicts = {one.verdict for one in findings}
    return next((one for one in (FAIL, CANNOT_TELL) if one in verdicts), PASS)
