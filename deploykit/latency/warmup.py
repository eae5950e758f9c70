"""Warm-up until the times stop falling."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

WINDOW = 3
TOLERANCE = 0.05
MOST_BLOCKS = 20


def is_stationary(medians: list[float]) -> bool:
    """Whether the last three blocks are not faster than the three before by more than 5 %."""
    if len(medians) < 2 * WINDOW:
        return False
    before, last = float(np.median(medians[-2 * WINDOW : -WINDOW])), float(np.median(medians[-WINDOW:]))
    return last >= before * (1 - TOLERANCE)


def warm_up(block: Callable[[], np.ndarray], limit_s: float) -> tuple[int, bool]:
    """Run blocks until they are stationary; at most 20, and none begins after ``limit_s`` seconds.

    Args:
        block: times one block and returns its samples in ms.
        limit_s: of the whole warm-up.

    Returns:
        The number of calls made, and whether the times had become stationary.
    """
    start, calls, medians = time.monotonic(), 0, list[float]()
    while len(medians) < MOST_BLOCKS and (not medians or time.monotonic() - start < limit_s):
        samples = block()
        calls += len(samples) + 1
        medians.append(float(np.median(samples)))
        if is_stationary(medians):
            return calls, True
    return calls, False
