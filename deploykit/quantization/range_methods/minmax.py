"""``minmax``: everything that was seen."""

from __future__ import annotations

from deploykit.quantization.observers import Observer
from deploykit.quantization.schemes import Scheme


def minmax(seen: Observer, scheme: Scheme, percentile: float) -> tuple[float, float]:
    """The exact extremes."""
    return seen.low, seen.high
