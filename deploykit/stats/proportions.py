"""The intervals of a proportion.

p-values of the score intervals: how surely a proportion, or a paired difference of two, lies on one side of a limit.

Each is the smallest alpha at which the matching interval (:func:`deploykit.stats.proportions.wilson`,
:func:`deploykit.stats.paired.score_interval`) leaves the limit out.
"""

from __future__ import annotations

import math


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a proportion, which stays inside [0, 1] and is honest near both ends.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927);
    recommended by Brown, Cai and DasGupta, "Interval estimation for a binomial proportion", Statistical Science 16 (2001).

    ``successes``: how many of ``n`` succeeded. ``n``: number of trials, at least 1. ``level``: of confidence,
    two-sided. Returns low and high, ratios in [0, 1].

    Raises:
        ValueError: no trials, or successes outside 0…n.
    """
    from scipy.stats import binomtest

    found = binomtest(successes, n).proportion_ci(level, method="wilson")
    return float(found.low), float(found.high)


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a proportion: it leaves the true one out at most as often as it says, however few the trials.

    Source: C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the
    binomial", Biometrika 26 (1934).

    ``successes``: how many of ``n`` succeeded. ``n``: number of trials, at least 1. ``level``: two-sided. Returns low and
    high, ratios in [0, 1].

    Raises:
        ValueError: no trials, or successes outside 0…n.
    """
    from scipy.special import betaincinv

    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"clopper_pearson needs 0 <= successes <= n and n >= 1, got {successes} of {n}")
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 1 - tail))
    return low, high


def two_sided(z: float) -> float:
    """P(|Z| >= |z|) of the standard normal."""
    from scipy.special import ndtr

    return min(1.0, 2 * float(ndtr(-abs(z))))


def proportion_p(successes: float, n: float, share: float) -> float:
    """The two-sided p-value that a proportion is exactly ``share``.

    Source: E. B. Wilson, JASA 22 (1927).

    ``successes``: of ``n`` trials; need not be whole, so that larger samples of the same rate can be asked for. ``n``:
    number of trials, above 0. ``share``: the limit, in [0, 1].

    Raises:
        ValueError: no trials, or successes outside 0…n.
    """
    if n <= 0 or not 0 <= successes <= n or not 0 <= share <= 1:
        raise ValueError(
            f"proportion_p needs 0 <= successes <= n and a share in [0, 1], got {successes} of {n}, {share}"
        )
    gap, variance = successes / n - share, share * (1 - share) / n
    if variance == 0:
        return 1.0 if gap == 0 else 0.0
    return two_sided(gap / math.sqrt(variance))


def paired_p(only_first: float, only_second: float, n: float, difference: float) -> float:
    """The two-sided p-value that the difference of two paired proportions, first minus second, is ``difference``.

    Source: T. Tango, Statistics in Medicine 17 (1998), eqs. 7-10.

    ``only_first``: images that only the first classifier gets right; need not be whole. ``only_second``: images that
    only the second gets right. ``n``: number of images, above 0. ``difference``: the limit, in [-1, 1].

    Raises:
        ValueError: counts below 0 or above ``n``.
    """
    if n <= 0 or min(only_first, only_second) < 0 or only_first + only_second > n * (1 + 1e-12):
        raise ValueError(f"paired_p needs counts within n, got {only_first} and {only_second} of {n}")
    if abs(difference) >= 1:
        return 1.0 if only_first - only_second == difference * n else 0.0
    gap, variance = gap_and_variance(only_first, only_second, n, difference)
    if variance <= 0:
        return 1.0 if gap == 0 else 0.0
    return two_sided(gap / math.sqrt(variance))


def gap_and_variance(only_first: float, only_second: float, n: float, difference: float) -> tuple[float, float]:
    """Tango's score statistic is gap² / variance: how far the discordant counts are from ``difference``, and its variance."""
    b = -only_first - only_second + (2 * n - only_first + only_second) * difference
    c = -only_second * difference * (1 - difference)
    q = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
    return only_first - only_second - n * difference, n * (2 * q + difference * (1 - difference))


def unpaired_p(right_first: float, n_first: float, right_second: float, n_second: float, difference: float) -> float:
    """The two-sided p-value that the difference of two independent proportions, first minus second, is ``difference``.

    The statistic uses the rates as estimated, each with half a success added (Agresti and Caffo, The American
    Statistician 54, 2000, add one to each cell), so that it stays finite at 0 and 1.

    ``right_first``: successes of the first, of ``n_first``. ``n_first``, ``n_second``: above 0. ``right_second``:
    successes of the second, of ``n_second``.
    """
    if min(n_first, n_second) <= 0:
        raise ValueError("unpaired_p needs trials of both")
    first, second = (right_first + 1) / (n_first + 2), (right_second + 1) / (n_second + 2)
    variance = first * (1 - first) / (n_first + 2) + second * (1 - second) / (n_second + 2)
    return two_sided((first - second - difference) / math.sqrt(variance))


def unpaired_interval(
    right_first: float, n_first: float, right_second: float, n_second: float, level: float
) -> tuple[float, float]:
    """The interval that goes with :func:`unpaired_p`."""
    from scipy.special import ndtri

    first, second = (right_first + 1) / (n_first + 2), (right_second + 1) / (n_second + 2)
    variance = first * (1 - first) / (n_first + 2) + second * (1 - second) / (n_second + 2)
    half = float(ndtri(0.5 + level / 2)) * math.sqrt(variance)
    return first - second - half, first - second + half
