"""``max_size_bytes`` and ``max_size_ratio``: the artifact on disk."""

from __future__ import annotations

from deploykit.gating.limits.single_numbers import REPORT, number_limit
from deploykit.gating.question import Case, Question
from deploykit.reporting.schema import Variant


def max_size_bytes(case: Case) -> Question:
    """Size of the artifact."""
    return number_limit(case, _bytes, most=True, relative=False, source=REPORT)


def max_size_ratio(case: Case) -> Question:
    """Size of the artifact over the baseline variant's."""
    return number_limit(case, _bytes, most=True, relative=True, source=REPORT)


def _bytes(one: Variant) -> float | None:
    return one.artifact.bytes if one.artifact else None
