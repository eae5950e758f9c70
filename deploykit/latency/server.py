"""The ``server`` scenario: the highest rate of Poisson arrivals whose p99 keeps a bound, found by search."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deploykit.latency.arrivals import Arrivals, poisson
from deploykit.stats.early_stopping import least_queries

SHARE = 0.99
LATE = 8
"""A probe may see so many late answers; the queries it takes follow from LoadGen's early stopping (1,736 for 8)."""
CLOSE_ENOUGH = 1.05
MOST_PROBES = 12


@dataclass(frozen=True)
class Served:
    """What the search found.

    Attributes:
        rate_per_s: the highest rate that kept the bound; None where none did.
        latencies_ms: float64 [n] of the requests at that rate.
        note: why there is no rate, or why it may be higher; None where neither is so.
    """

    rate_per_s: float | None
    latencies_ms: np.ndarray
    note: str | None = None


def highest_rate(
    probe: Callable[[Arrivals], np.ndarray],
    answer_ms: float,
    bound_ms: float,
    sizes: tuple[int, ...],
    limit_s: float,
    seed: int,
) -> Served:
    """Search the highest rate whose p99 is known to keep the bound with 99 % confidence.

    The rate is bisected on a logarithmic scale, down from one answer after the other without a pause, until the best
    that held and the least that failed are within 5 % of each other. A probe that cannot end in time is not begun.

    Args:
        probe: lets the requests arrive at the variant; fewer latencies than requests mean that it failed.
        answer_ms: what one answer to one picture takes.
        bound_ms: of p99, from the scheduled time.
        sizes: numbers of pictures that may be answered together.
        limit_s: of the whole search.
        seed: of the arrivals; every probe has its own.
    """
    n = least_queries(LATE, SHARE)
    best, worst = 0.0, 1e3 / answer_ms * (1.0 if len(sizes) == 1 else sizes[-1])
    kept = np.empty(0)
    end = time.monotonic() + limit_s
    rate = 0.7 * 1e3 / answer_ms
    for number in range(MOST_PROBES):
        if n / rate > end - time.monotonic():
            return Served(best or None, kept, "the search of the highest rate ended at the time limit")
        latencies = probe(Arrivals(poisson(rate, n, seed + number), sizes, bound_ms, LATE))
        if len(latencies) == n and np.count_nonzero(latencies > bound_ms) <= LATE:
            best, kept = rate, latencies
        else:
            worst = rate
        if best and worst / best <= CLOSE_ENOUGH:
            return Served(best, kept)
        rate = float(np.sqrt(best * worst)) if best else worst / 2
        if rate < 1e3 / answer_ms / 100:
            break
    if best:
        return Served(best, kept)
    return Served(
        None, kept, f"no rate keeps p99 within {bound_ms:g} ms: one answer alone takes {answer_ms:.3g} ms at the median"
    )
