"""How much more would have to be measured before a question is decided."""

from __future__ import annotations

import math
from collections.abc import Callable

MOST_FACTOR = 1e6


def factor_needed(p_value: Callable[[float], float], alpha: float) -> float | None:
    """The smallest multiple of the sample, of the same rates, whose p-value is at most ``alpha``.

    Args:
        p_value: of a sample that is ``factor`` times as large; falls as it grows.
        alpha: level that must be reached.

    Returns:
        A factor of at least 1; None where a million times as much would not do: the estimate lies on the limit.
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
