"""Poisson arrivals, latency from the scheduled time, and the search of the highest rate."""

from __future__ import annotations

import time

import numpy as np
import pytest

from deploykit.latency.arrivals import Arrivals, answer, poisson
from deploykit.latency.scenarios import highest_rate
from deploykit.latency.sweep import doublings


def queue_of(service_ms: float):
    """A server of constant service time, computed instead of waited for (Lindley's recursion)."""

    def probe(arrivals: Arrivals) -> np.ndarray:
        free = late = 0.0
        found = []
        for at in arrivals.at_s:
            free = max(free, at) + service_ms / 1e3
            found.append((free - at) * 1e3)
            late += found[-1] > arrivals.bound_ms
            if late > arrivals.most_late:
                break
        return np.array(found)

    return probe


@pytest.mark.parametrize(("service", "bound"), [(1.0, 5.0), (2.0, 30.0), (0.2, 0.5)])
def test_the_highest_rate_keeps_the_bound_and_much_more_does_not(service: float, bound: float) -> None:
    found = highest_rate(queue_of(service), service, bound, (1,), 1e6, seed=1)
    assert found.note is None
    assert found.rate_per_s is not None
    assert found.rate_per_s < 1e3 / service

    def p99(rate: float) -> float:
        arrivals = Arrivals(poisson(rate, 200_000, 99), (1,), bound, 10**9)
        return float(np.quantile(queue_of(service)(arrivals), 0.99))

    assert p99(found.rate_per_s) <= bound
    assert p99(min(0.999 * 1e3 / service, 1.6 * found.rate_per_s)) > bound


def test_a_bound_below_one_answer_has_no_rate() -> None:
    found = highest_rate(queue_of(10.0), 10.0, 5.0, (1,), 1e6, seed=0)
    assert found.rate_per_s is None
    assert "no rate keeps p99 within 5 ms: one answer alone takes 10 ms" in (found.note or "")


def test_a_search_without_time_says_so() -> None:
    found = highest_rate(queue_of(10.0), 10.0, 50.0, (1,), 0.0, seed=0)
    assert found.rate_per_s is None
    assert "time limit" in (found.note or "")


def test_latency_counts_from_the_schedule_and_waiting_requests_share_an_answer() -> None:
    made: list[str] = []

    def call(name: str):
        def run() -> None:
            made.append(name)
            end = time.perf_counter() + 0.004
            while time.perf_counter() < end:
                pass

        return run

    at = np.zeros(7)  # all at once
    alone = answer(Arrivals(at, (1,), 1e6, 100), call)
    assert len(alone) == 7
    assert (np.diff(alone) >= 3.9).all()  # each waits for the one before
    made.clear()
    together = answer(Arrivals(at, (1, 2, 4), 1e6, 100), call)
    assert made == ["compute/1", "compute/2", "compute/4", "compute/4", "compute/2", "compute/1"]
    assert together[0] == together[3] < together[4] == together[5] < together[6]
    assert len(answer(Arrivals(at, (1,), 10.0, 2), call)) < 7  # too many are late: it ends


def test_gaps_are_exponential_with_the_rate_asked_for() -> None:
    gaps = np.diff(poisson(200.0, 50_000, 3))
    assert gaps.mean() == pytest.approx(1 / 200, rel=0.03)
    assert gaps.std() == pytest.approx(1 / 200, rel=0.05)
    assert np.array_equal(poisson(200.0, 10, 3), poisson(200.0, 10, 3))


def test_sizes_are_powers_of_two_and_the_batch() -> None:
    assert [doublings(batch) for batch in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]
