"""``mse``: the least expected squared error of the quantizer itself, rounding and clipping both.

Choukroun et al. 2019, "Low-bit Quantization of Neural Networks for Efficient Inference", section 3.
"""

from __future__ import annotations

import numpy as np

from deploykit.quantization.observers import Observer
from deploykit.quantization.schemes import Scheme, affine


def mse(seen: Observer, scheme: Scheme, percentile: float) -> tuple[float, float]:
    """The bounds that lose least, among shares of the extremes."""
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
