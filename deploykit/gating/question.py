"""One limit on one variant, as a question that numbers answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deploykit.gating.evidence import Evidence, Wanted

PASS, FAIL, CANNOT_TELL = "pass", "fail", "cannot_tell"


@dataclass(frozen=True)
class Question:
    """A limit with what is known of the number it holds.

    Attributes:
        variant: name.
        rule: name of the limit in the policy.
        limit: in the unit of the rule.
        value: the estimate, in the same unit; None where nothing is known.
        most: whether the value must be at most the limit, else at least.
        interval: level → low and high, in the same unit; None for a number without a chance error, and where none is
            known.
        p_value: the two-sided p-value that the true value is the limit; None as ``interval``.
        more: alpha → how much more must be measured to decide, ``"1,200 more images"``; None where that is not known.
        exact: the number has no chance error: a size, a count.
        source: what it was judged from.
        verdict: already decided (a variant that is missing); None: by the numbers.
        reason: why, for what is decided already or cannot be.
    """

    variant: str
    rule: str
    limit: float | bool | None = None
    value: float | None = None
    most: bool = True
    interval: Callable[[float], tuple[float, float]] | None = None
    p_value: Callable[[], float] | None = None
    more: Callable[[float], str | None] | None = None
    exact: bool = False
    source: str = ""
    verdict: str | None = None
    reason: str = ""

    @property
    def beyond(self) -> bool:
        """Whether the estimate breaks the limit."""
        assert self.value is not None
        assert self.limit is not None
        return self.value > self.limit if self.most else self.value < self.limit


def failed(variant: str, rule: str, reason: str, limit: float | bool | None = None) -> Question:
    """A limit that is broken because there is nothing to judge."""
    return Question(variant, rule, limit, verdict=FAIL, reason=reason)


def undecided(variant: str, rule: str, reason: str, limit: float | None, value: float | None = None) -> Question:
    """A limit that cannot be judged from what is there."""
    return Question(variant, rule, limit, value, verdict=CANNOT_TELL, reason=reason)


@dataclass(frozen=True)
class Case:
    """What one limit is asked of.

    Attributes:
        new: the report that is judged.
        name: of the variant, which is in it and ran.
        rule: name of the limit.
        limit: in the unit of the rule.
        wanted: the measurement that limits on speed speak of.
        old: the older report that a limit compares with; None where there is none, or where the limit does not ask for it.
        beside: the variant of ``new`` that stands for the older report, or None.
        reference: the variant that times are divided by in both reports; None: the baseline variant.
        machine: that limits in units of time hold for; None: the policy names none.
    """

    new: Evidence
    name: str
    rule: str
    limit: float
    wanted: Wanted
    old: Evidence | None = None
    beside: str | None = None
    reference: str | None = None
    machine: str | None = None

    def failed(self, reason: str) -> Question:
        """The limit is broken because there is nothing to judge."""
        return failed(self.name, self.rule, reason, self.limit)


Ask = Callable[[Case], Question]
