"""Percentiles of latencies from pooled raw samples, with intervals that respect blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deploykit.stats.tails import circular_runs, expanded_tail

_CHUNK = 4_000_000


def percentile(samples: np.ndarray, share: float) -> float:
    """The smallest sample that at least ``share`` of the samples do not exceed (type 1 of Hyndman and Fan).

    It is a value that was really measured; percentiles are never averaged over blocks or runs.

    Source: Hyndman and Fan, "Sample quantiles in statistical packages", The American Statistician 50 (1996).

    Args:
        samples: [n], pooled over all blocks, outliers included.
        share: in (0, 1]; 0.99 for p99.

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
    5.2.1 (percentile method); :mod:`deploykit.stats.tails`.

    Args:
        blocks: samples of each block in the order of time, each of any length of at least 1.
        share: in (0, 1].
        level: of confidence, two-sided.
        seed: equal seeds give equal intervals.
        resamples: number of bootstrap samples.

    Raises:
        ValueError: fewer than two blocks.
    """
    if len(blocks) < 2:
        raise ValueError(f"percentile_interval needs at least 2 blocks, got {len(blocks)}")
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
    tail = expanded_tail((1 - level) / 2, runs)
    low, high = np.quantile(found, [tail, 1 - tail])
    return float(low), float(high)
