"""Limits on numbers without a chance error."""

from __future__ import annotations

from collections.abc import Callable

from deploykit.gating.question import Case, Question
from deploykit.reporting.schema import Variant

REPORT, READING = "the report", "a single reading"


def number_limit(
    case: Case, number: Callable[[Variant], float | None], *, most: bool, relative: bool, source: str
) -> Question:
    """A limit on one number of the variant.

    Args:
        case: the limit.
        number: reads it; None where it is not known.
        most: it is a maximum.
        relative: the number is divided by the baseline variant's.
        source: of the number.
    """
    value = number(case.new.variants[case.name])
    if value is None:
        return case.failed("it was not measured")
    if relative:
        base = case.new.variants.get(case.new.baseline or "")
        below = number(base) if base else None
        if not below:
            return case.failed("it was not measured of the baseline variant")
        value = value / below
    return Question(case.name, case.rule, case.limit, float(value), most, exact=True, source=source)
