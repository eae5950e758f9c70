"""Many tests at once: Holm's correction, and how much more data would decide a question."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Tested:
    """One of several tests.

    ``rejected``: whether its hypothesis is rejected with all tests taken together. ``alpha``: the level that its own
    p-value was compared with; where a smaller p-value stopped the procedure before its turn, the level at which that
    happened.
    """

    rejected: bool
    alpha: float


def holm(p_values: Sequence[float], alpha: float = 0.05) -> list[Tested]:
    """Holm's step-down procedure over a family of tests.

    The smallest of m p-values is compared with alpha / m, the next with alpha / (m - 1), …; the first that is not below
    its level ends the rejections. The chance of any false rejection is at most alpha, whatever the tests depend on.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979).

    ``p_values``: in any order, each in [0, 1]. ``alpha``: of the whole family. Returns one result per test, in the
    order given.

    Raises:
        ValueError: a p-value or a level out of range.
    """
    if not 0 < alpha < 1 or not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"holm needs p-values in [0, 1] and a level in (0, 1), got {list(p_values)} at {alpha}")
    found: dict[int, Tested] = {}
    m, stopped = len(p_values), None
    for rank, index in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        level = alpha / (m - rank)
        if stopped is None and p_values[index] > level:
            stopped = level
        found[index] = Tested(stopped is None, level if stopped is None else stopped)
    return [found[index] for index in range(m)]


MOST_FACTOR = 1e6


def factor_needed(p_value: Callable[[float], float], alpha: float) -> float | None:
    """The smallest multiple of the sample, of the same rates, whose p-value is at most ``alpha``.

    ``p_value``: of a sample that is ``factor`` times as large; falls as it grows. ``alpha``: level that must be
    reached. Returns a factor of at least 1; None where a million times as much would not do: the estimate lies on the
    limit.
    """
    low, high = 1.0, 1.0
    while p_value(high) > alpha:
        if high >= MOST_FACTOR:
            return None
        low, high = high, min(2 * high, MOST_FACTOR)
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if p_value(middle) <= alpha else (middle, high)
    return high
