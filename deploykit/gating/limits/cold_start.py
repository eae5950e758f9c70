"""``max_cold_start_ratio``: load and first answer."""

from __future__ import annotations

from deploykit.gating.limits.single_numbers import READING, number_limit
from deploykit.gating.question import Case, Question


def max_cold_start_ratio(case: Case) -> Question:
    """Load and first answer over the baseline variant's."""
    return number_limit(case, lambda one: one.cold_start_ms, most=True, relative=True, source=READING)
