"""The interval of a proportion."""

from __future__ import annotations

import math


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a proportion, which stays inside [0, 1] and is honest near both ends.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927);
    recommended by Brown, Cai and DasGupta, "Interval estimation for a binomial proportion", Statistical Science 16 (2001).

    Args:
        successes: how many of ``n`` succeeded.
        n: number of trials, at least 1.
        level: of confidence, two-sided.

    Returns:
        Low and high, ratios in [0, 1].

    Raises:
        ValueError: no trials, or successes outside 0…n.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"wilson needs 0 <= successes <= n and n >= 1, got {successes} of {n}")
    from scipy.special import ndtri

    z = float(ndtri(0.5 + level / 2))
    share, square = successes / n, z * z / n
    centre = (share + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(share * (1 - share) / n + square / (4 * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high
