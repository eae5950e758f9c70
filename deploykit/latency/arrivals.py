"""Requests that arrive by themselves, whether or not the variant is ready for them.

Source: MLPerf Inference, LoadGen's ``server`` scenario: Poisson arrivals, one picture each, and a latency that counts
from the scheduled time, so that a queue is part of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SPIN_S = 0.001
"""Waits shorter than this are spun, because a sleeping process wakes up late."""


@dataclass(frozen=True)
class Arrivals:
    """A stream of requests.

    ``at_s``: float64 [n], ascending: when each is scheduled, from the start of the stream. ``sizes``: numbers of
    waiting pictures that may be answered together, ascending, the first 1. ``bound_ms``: latency that is to be kept.
    ``most_late``: the stream ends when more than so many were answered later than that.
    """

    at_s: np.ndarray
    sizes: tuple[int, ...]
    bound_ms: float
    most_late: int


def poisson(rate_per_s: float, n: int, seed: int) -> np.ndarray:
    """Scheduled times of ``n`` requests with exponentially distributed gaps: float64 [n] in s."""
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate_per_s, n))


def answer(arrivals: Arrivals, call: Callable[[str], Callable[[], object]]) -> np.ndarray:
    """Answer the requests in order, as many waiting ones together as may be.

    ``call``: makes the call of a name, ``compute/4`` for four pictures. Returns latencies from the scheduled time to
    the answer, float64 [n] in ms; fewer than arrived when too many were late.
    """
    calls = [call(f"compute/{size}") for size in arrivals.sizes]
    for one in calls:
        one()
    at, sizes, clock = arrivals.at_s, arrivals.sizes, time.perf_counter
    done_s = np.empty(len(at))
    number = late = 0
    start = clock()
    while number < len(at):
        while (wait := at[number] - (clock() - start)) > 0:
            if wait > SPIN_S:
                time.sleep(wait - SPIN_S)
        waiting = int(np.searchsorted(at, clock() - start, side="right")) - number
        chosen = max(i for i, size in enumerate(sizes) if size <= max(waiting, 1))
        calls[chosen]()
        end = number + sizes[chosen]
        done_s[number:end] = clock() - start
        late += int(np.count_nonzero((done_s[number:end] - at[number:end]) * 1e3 > arrivals.bound_ms))
        number = end
        if late > arrivals.most_late:
            break
    return (done_s[:number] - at[:number]) * 1e3
