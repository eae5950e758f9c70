"""``max_memory_bytes`` and ``max_memory_ratio``: what a worker of the variant held at most."""

from __future__ import annotations

from deploykit.gating.limits.single_numbers import READING, number_limit
from deploykit.gating.question import Case, Question
from deploykit.reporting.schema import Variant


def max_memory_bytes(case: Case) -> Question:
    """Peak memory."""
    return number_limit(case, _bytes, most=True, relative=False, source=READING)


def max_memory_ratio(case: Case) -> Question:
    """Peak memory over the baseline variant's."""
    return number_limit(case, _bytes, most=True, relative=True, source=READING)


def _bytes(one: Variant) -> float | None:
    return one.peak_memory_bytes
