"""Scales and their ticks."""

from __future__ import annotations

import math
from dataclasses import dataclass

LOG_FROM = 6.0
"""Values that spread over at least this ratio are drawn on a logarithmic scale."""


@dataclass(frozen=True)
class Scale:
    """A mapping of values to pixels.

    Attributes:
        low: value at ``start``.
        high: value at ``end``.
        start: pixel of ``low``.
        end: pixel of ``high``.
        log: logarithmic.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value; outside values are clamped to the ends."""
        value = min(max(value, self.low), self.high)
        low, high, at = (math.log(one) if self.log else one for one in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self, wanted: int) -> list[float]:
        """Round values between low and high, about ``wanted`` of them."""
        return log_ticks(self.low, self.high, wanted) if self.log else linear_ticks(self.low, self.high, wanted)


def linear_ticks(low: float, high: float, wanted: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float, wanted: int) -> list[float]:
    """Values 1, 2, 5 times powers of ten, thinned to powers of ten where these are too many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [round(f * 10.0**p, 12) for p in powers for f in factors if low <= f * 10.0**p <= high]
        if len(found) <= wanted + 1:
            return found
    return found[:: math.ceil(len(found) / wanted)]


def latency_scale(values: list[float], start: float, end: float, pad: float = 0.06) -> Scale:
    """A scale for positive times: logarithmic where they spread widely."""
    low, high = min(values), max(values)
    if high / low >= LOG_FROM:
        edge = (high / low) ** pad
        return Scale(low / edge, high * edge, start, end, log=True)
    span = max(high - low, 0.1 * high)
    return Scale(max(0.0, low - pad * span), high + pad * span, start, end)


def ratio_scale(values: list[float], start: float, end: float) -> Scale:
    """A scale for ratios in [0, 1], at least one point high and never beyond the ends."""
    low, high = min(values), max(values)
    span = max(high - low, 0.01)
    return Scale(max(0.0, low - 0.12 * span), min(1.0, high + 0.12 * span), start, end)
