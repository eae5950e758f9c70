"""Percentiles of latencies from pooled raw samples, with intervals that respect blocks.

Percentiles with confidence: how many calls must be seen before a latency bound may be claimed.

Source: MLPerf Inference, LoadGen's early-stopping criterion (``loadgen/early_stopping.cc``, ``docs/src/early_stopping``).
With t calls over a bound among n = h + t independent calls, the bound is not yet known to hold for a share p of all calls
while P(at most t over | share p) = I(p - d; h, t + 1) > 1 - c, where I is the regularised incomplete beta function, d the
tolerance and c the confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deploykit.stats.ratio import circular_runs, expanded_tail

_CHUNK = 4_000_000


def percentile(samples: np.ndarray, share: float) -> float:
    """The smallest sample that at least ``share`` of the samples do not exceed (type 1 of Hyndman and Fan).

    It is a value that was really measured; percentiles are never averaged over blocks or runs.

    Source: Hyndman and Fan, "Sample quantiles in statistical packages", The American Statistician 50 (1996).

    ``samples``: [n], pooled over all blocks, outliers included. ``share``: in (0, 1]; 0.99 for p99.

    Raises:
        ValueError: no samples, one that is not finite, or a share out of range.
    """
    values = np.asarray(samples, dtype=np.float64).ravel()
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError("percentile needs at least one finite sample")
    if not 0 < share <= 1:
        raise ValueError(f"percentile needs a share in (0, 1], got {share}")
    rank = max(0, int(np.ceil(round(share * values.size, 9))) - 1)
    return float(np.partition(values, rank)[rank])


def percentile_interval(
    blocks: Sequence[np.ndarray], share: float, level: float = 0.95, *, seed: int = 0, resamples: int = 1000
) -> tuple[float, float]:
    """The bootstrap interval of a percentile of the pooled samples, whole blocks being resampled.

    Samples of one block are alike, so that resampling single samples would give intervals far too narrow; blocks are
    the units, taken in runs of neighbours, with tails widened for as many runs, as for the speed-up.

    Source: Davison and Hinkley, *Bootstrap Methods and their Application* (1997), sections 3.8 (hierarchical data) and
    5.2.1 (percentile method); :mod:`deploykit.stats.ratio`.

    ``blocks``: samples of each block in the order of time, each of any length of at least 1. ``share``: in (0, 1].
    ``level``: of confidence, two-sided. ``resamples``: number of bootstrap samples.

    Raises:
        ValueError: fewer than two blocks.
    """
    draws, runs = percentile_draws(blocks, share, seed=seed, resamples=resamples)
    tail = expanded_tail((1 - level) / 2, runs)
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def percentile_draws(
    blocks: Sequence[np.ndarray], share: float, *, seed: int = 0, resamples: int = 1000
) -> tuple[np.ndarray, int]:
    """The bootstrap distribution behind :func:`percentile_interval`: float64 [resamples], and the runs in each resample.

    Raises:
        ValueError: fewer than two blocks.
    """
    if len(blocks) < 2:
        raise ValueError(f"a percentile's bootstrap needs at least 2 blocks, got {len(blocks)}")
    pooled = np.concatenate([np.asarray(block, dtype=np.float64).ravel() for block in blocks])
    owner = np.repeat(np.arange(len(blocks)), [len(block) for block in blocks])
    order = np.argsort(pooled, kind="stable")
    values, owner = pooled[order], owner[order]
    n = len(blocks)
    index, runs = circular_runs(n, resamples, np.random.default_rng(seed))
    counts = np.zeros((resamples, n), dtype=np.int64)
    np.add.at(counts, (np.arange(resamples)[:, None], index), 1)
    found = np.empty(resamples)
    step = max(1, _CHUNK // len(values))
    for start in range(0, resamples, step):
        weight = np.cumsum(counts[start : start + step][:, owner], axis=1)
        rank = np.ceil(np.round(share * weight[:, -1:], 9))
        found[start : start + step] = values[np.argmax(weight >= np.maximum(rank, 1), axis=1)]
    return found, runs


CONFIDENCE = 0.99


@dataclass(frozen=True)
class Estimate:
    """A percentile that holds with the wished confidence.

    ``value``: the sample that is claimed as the percentile, in the unit of the samples; None with too few of them.
    ``over``: t, how many of the highest samples the claim allows over it; 0 where there is no value. ``n``: number of
    samples. ``needed``: how many samples would have allowed a first claim.
    """

    value: float | None
    over: int
    n: int
    needed: int


def least_queries(over: int, share: float, confidence: float = CONFIDENCE, tolerance: float = 0.0) -> int:
    """The smallest number of calls after which ``over`` of them may be above a bound that is claimed as a percentile.

    Published counts for one call over: 64 for p90, 662 for p99.

    ``over``: t, number of calls above the bound, at least 0. ``share``: p in (0, 1); 0.99 for p99. ``confidence``: c in
    (0, 1). ``tolerance``: d, how far the share may be missed; in [0, share). Returns n = h + t.

    Raises:
        ValueError: a negative count, or numbers out of range.
    """
    if over < 0 or not 0 < share < 1 or not 0 < confidence < 1 or not 0 <= tolerance < share:
        raise ValueError(
            f"least_queries needs over >= 0 and 0 <= tolerance < share < 1, got over {over}, share {share}, "
            f"confidence {confidence}, tolerance {tolerance}"
        )
    low, high = 0, 1
    while not _enough(high, over, share - tolerance, confidence):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _enough(middle, over, share - tolerance, confidence) else (middle, high)
    return high + over


def _enough(under: int, over: int, share: float, confidence: float) -> bool:
    from scipy.special import betainc

    return bool(betainc(under, over + 1, share) <= 1 - confidence)


def percentile_estimate(samples: np.ndarray, share: float, confidence: float = CONFIDENCE) -> Estimate:
    """The percentile that LoadGen reports for ``single_stream`` and ``multi_stream``: never below the true one, with
    the wished confidence, because it gives up as many of the highest samples as the count allows and no more.

    ``samples``: [n] latencies, all of them; outliers too. ``share``: p in (0, 1); 0.9 for p90. ``confidence``: c in
    (0, 1). Returns the t-th largest sample, t being the most calls over the bound that n calls allow; no value below
    the least number of samples.

    Raises:
        ValueError: a sample that is not finite, or numbers out of range.
    """
    values = np.asarray(samples, dtype=np.float64).ravel()
    if not np.isfinite(values).all():
        raise ValueError("percentile_estimate needs finite samples")
    n, needed = values.size, least_queries(1, share, confidence)
    if n < needed:
        return Estimate(None, 0, n, needed)
    low, high = 1, n  # the largest t with least_queries(t) <= n
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if least_queries(middle, share, confidence) <= n else (low, middle)
    return Estimate(float(np.partition(values, n - low)[n - low]), low, n, needed)
