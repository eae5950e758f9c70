"""From an observer's statistics to a range ``(low, high)``: one pass of calibration serves all of these."""

from __future__ import annotations

import numpy as np

from deploykit.base.errors import unknown
from deploykit.quantization.observers import Observer
from deploykit.quantization.schemes import Scheme, affine

METHODS = ("minmax", "moving", "percentile", "entropy", "mse")


def choose_range(seen: Observer, method: str, scheme: Scheme, percentile: float = 99.99) -> tuple[float, float]:
    """The range of one activation.

    Args:
        seen: its statistics.
        method: ``minmax`` · ``moving`` average of the batches' extremes · ``percentile`` · ``entropy`` (KL divergence,
            Migacz, "8-bit inference with TensorRT", GTC 2017) · ``mse`` (the least expected squared error of the
            quantizer itself, rounding and clipping both; Choukroun et al. 2019, section 3).
        scheme: of the quantizer, for ``mse``.
        percentile: of values kept, split over both tails where there are two.

    Raises:
        BadInput: an unknown method.
    """
    if method == "minmax":
        return seen.low, seen.high
    if method == "moving":
        return seen.moving_low, seen.moving_high
    if method == "percentile":
        return _percentile(seen, percentile)
    if method == "entropy":
        return _entropy(seen)
    if method == "mse":
        return _mse(seen, scheme)
    raise unknown("calibration method", method, METHODS)


def _percentile(seen: Observer, percentile: float) -> tuple[float, float]:
    total = seen.counts.sum()
    share = np.cumsum(seen.counts) / total
    tail = (100 - percentile) / 100 / (2 if seen.low < 0 < seen.high else 1)
    width = 2 * seen.limit / len(seen.counts)
    low = -seen.limit + width * int(np.searchsorted(share, tail, side="right"))
    high = -seen.limit + width * (int(np.searchsorted(share, 1 - tail, side="left")) + 1)
    return max(low, seen.low) if seen.low < 0 else seen.low, min(high, seen.high) if seen.high > 0 else seen.high


def _expected_error(seen: Observer, low: float, high: float, scheme: Scheme) -> float:
    filled = seen.counts > 0
    centers, counts = seen.centers()[filled], seen.counts[filled]
    step = affine(low, high, scheme)
    back = step.dequantize(step.quantize(centers))
    width = 2 * seen.limit / len(seen.counts)
    # Inside the bin the values are spread: where the quantizer's step is finer than the bin, its own
    # rounding error is scale²/12, which the centre alone would hide.
    inside = min(step.scale, width) ** 2 / 12
    return float((((centers - back) ** 2 + inside) * counts).sum())


def _mse(seen: Observer, scheme: Scheme) -> tuple[float, float]:
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    shrink = np.concatenate([np.geomspace(0.02, 0.5, 16), np.linspace(0.52, 1.0, 25)])
    if scheme.symmetric:
        limit = max(-low, high)
        best = min(shrink, key=lambda k: _expected_error(seen, -limit * k, limit * k, scheme))
        return max(low, -limit * best), min(high, limit * best)
    for _ in range(2):  # one bound after the other; a second round settles it
        if high > 0:
            top = max(seen.high, 0.0)
            high = float(min(shrink, key=lambda k: _expected_error(seen, low, top * k, scheme)) * top)
        if low < 0:
            bottom = min(seen.low, 0.0)
            low = float(min(shrink, key=lambda k: _expected_error(seen, bottom * k, high, scheme)) * bottom)
    return low, high


def _entropy(seen: Observer, levels: int = 128) -> tuple[float, float]:
    half = len(seen.counts) // 2
    magnitude = seen.counts[half:] + seen.counts[:half][::-1]
    magnitude[0] = magnitude[1]  # the zeros of a Relu are exact at any scale and would outweigh all else
    last = int(np.flatnonzero(magnitude)[-1]) + 1 if magnitude.any() else half
    if last <= levels:
        return seen.low, seen.high
    best, chosen = np.inf, last
    for stop in range(levels, last + 1, max(1, (last - levels) // 128)):
        kept = magnitude[:stop].astype(np.float64)
        reference = kept.copy()
        reference[-1] += magnitude[stop:].sum()
        edges = np.linspace(0, stop, levels + 1).astype(int)
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
