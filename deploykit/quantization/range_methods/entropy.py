"""``entropy``: the least Kullback-Leibler divergence between the values and what is left of them.

Migacz, "8-bit inference with TensorRT", GTC 2017.
"""

from __future__ import annotations

import numpy as np

from deploykit.quantization.observers import Observer
from deploykit.quantization.schemes import Scheme

LEVELS = 128


def entropy(seen: Observer, scheme: Scheme, percentile: float) -> tuple[float, float]:
    """The limit, on both sides alike, whose 128 levels tell most of the histogram of magnitudes."""
    half = len(seen.counts) // 2
    magnitude = seen.counts[half:] + seen.counts[:half][::-1]
    magnitude[0] = magnitude[1]  # the zeros of a Relu are exact at any scale and would outweigh all else
    last = int(np.flatnonzero(magnitude)[-1]) + 1 if magnitude.any() else half
    if last <= LEVELS:
        return seen.low, seen.high
    best, chosen = np.inf, last
    for stop in range(LEVELS, last + 1, max(1, (last - LEVELS) // 128)):
        kept = magnitude[:stop].astype(np.float64)
        reference = kept.copy()
        reference[-1] += magnitude[stop:].sum()
        edges = np.linspace(0, stop, LEVELS + 1).astype(int)
        sums = np.add.reduceat(kept, edges[:-1])
        used = np.add.reduceat((kept > 0).astype(np.float64), edges[:-1])
        spread = np.repeat(np.divide(sums, used, out=np.zeros_like(sums), where=used > 0), np.diff(edges))
        candidate = np.where(kept > 0, spread, 0.0)
        divergence = _kl(reference, candidate)
        if divergence < best:
            best, chosen = divergence, stop
    limit = chosen * seen.limit / half
    return max(seen.low, -limit), min(seen.high, limit)


def _kl(reference: np.ndarray, candidate: np.ndarray) -> float:
    if candidate.sum() == 0:
        return np.inf
    p, q = reference / reference.sum(), candidate / candidate.sum()
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / np.maximum(q[seen], 1e-12))).sum())
