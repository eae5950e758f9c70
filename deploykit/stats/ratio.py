"""The paired speed-up: how much faster a candidate is than a baseline measured beside it, block by block."""

from __future__ import annotations

import numpy as np

from deploykit.stats.tails import circular_runs, expanded_tail


def speed_up(baseline: np.ndarray, candidate: np.ndarray) -> float:
    """The median over rounds of (baseline's time / candidate's time); above 1 the candidate is faster.

    Both blocks of a round were measured within moments of each other, so whatever slows the machine for longer than a
    round cancels in their ratio, which it does not in a ratio of medians taken from different minutes.

    Args:
        baseline: [rounds], typical time of each round's block, above 0, any unit.
        candidate: [rounds], of the same rounds and unit.

    Raises:
        ValueError: no rounds, different numbers of them, or a time that is not above 0 and finite.
    """
    return float(np.exp(np.median(log_ratios(baseline, candidate))))


def speed_up_interval(
    baseline: np.ndarray,
    candidate: np.ndarray,
    level: float = 0.95,
    *,
    seed: int = 0,
    resamples: int = 2000,
) -> tuple[float, float]:
    """The interval of :func:`speed_up`: circular block bootstrap over rounds.

    Rounds are resampled in runs of neighbours (:func:`deploykit.stats.tails.circular_runs`). Plain percentiles are too
    narrow with so few runs (they covered 88 % instead of 95 % at 20 rounds in the simulation of the tests), so the tails
    are those of Student's t with as many runs (:func:`deploykit.stats.tails.expanded_tail`).

    Args:
        baseline: [rounds].
        candidate: [rounds], of the same rounds.
        level: of confidence, two-sided.
        seed: equal seeds give equal intervals.
        resamples: number of bootstrap samples.

    Raises:
        ValueError: as :func:`speed_up`, and fewer than 5 rounds.
    """
    logs = log_ratios(baseline, candidate)
    n = logs.size
    if n < 5:
        raise ValueError(f"speed_up_interval needs at least 5 rounds, got {n}")
    index, runs = circular_runs(n, resamples, np.random.default_rng(seed))
    medians = np.median(logs[index], axis=1)
    tail = expanded_tail((1 - level) / 2, runs)
    low, high = np.quantile(medians, [tail, 1 - tail])
    return float(np.exp(low)), float(np.exp(high))


def half_width(estimate: float, low: float, high: float) -> float:
    """How far the interval reaches from the estimate, as a ratio of it: the larger of both sides."""
    return max(high / estimate - 1, 1 - low / estimate)


def log_ratios(baseline: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """log(baseline / candidate) of each round: float64 [rounds]; checked as :func:`speed_up` says."""
    first = np.asarray(baseline, dtype=np.float64).ravel()
    second = np.asarray(candidate, dtype=np.float64).ravel()
    if first.size == 0 or first.size != second.size:
        raise ValueError(f"speed_up needs the same rounds of both, got {first.size} and {second.size}")
    if not (np.isfinite(first).all() and np.isfinite(second).all() and first.min() > 0 and second.min() > 0):
        raise ValueError("speed_up needs times above 0")
    return np.log(first) - np.log(second)
