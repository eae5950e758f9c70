"""``percentile``: all but a small share of the values."""

from __future__ import annotations

import numpy as np

from deploykit.quantization.observers import Observer
from deploykit.quantization.schemes import Scheme


def percentile(seen: Observer, scheme: Scheme, kept: float) -> tuple[float, float]:
    """The range that holds ``kept`` percent of the values; what is left out is split over both tails where there are two."""
    total = seen.counts.sum()
    share = np.cumsum(seen.counts) / total
    tail = (100 - kept) / 100 / (2 if seen.low < 0 < seen.high else 1)
    width = 2 * seen.limit / len(seen.counts)
    low = -seen.limit + width * int(np.searchsorted(share, tail, side="right"))
    high = -seen.limit + width * (int(np.searchsorted(share, 1 - tail, side="left")) + 1)
    return max(low, seen.low) if seen.low < 0 else seen.low, min(high, seen.high) if seen.high > 0 else seen.high
