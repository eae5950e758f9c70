"""Two models judged on the same images: intervals of the mean of paired differences, and McNemar's test."""

from __future__ import annotations

import numpy as np

from deploykit.stats.proportions import gap_and_variance

_CHUNK = 4_000_000
_BESIDE = 1e-9
"""Off the estimate itself, where both the gap and, without discordant images, its variance vanish."""


def bootstrap_mean(
    differences: np.ndarray, level: float = 0.95, *, seed: int = 0, resamples: int = 10_000
) -> tuple[float, float]:
    """The bootstrap interval of the mean of paired differences, whole pairs being resampled.

    Pairs with equal differences are exchangeable, so a resample is one multinomial draw over the distinct values: for
    right/wrong answers that is three numbers however many images there are.

    Source: Efron and Tibshirani, *An Introduction to the Bootstrap* (1993), chapter 13 (percentile intervals).

    ``differences``: [n], one per image. ``level``: of confidence, two-sided. ``resamples``: number of bootstrap
    samples. Returns low and high, in the unit of ``differences``.

    Raises:
        ValueError: no differences, or a value that is not finite.
    """
    values = np.asarray(differences, dtype=np.float64).ravel()
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError("bootstrap_mean needs at least one finite difference")
    distinct, counts = np.unique(values, return_counts=True)
    if distinct.size == 1:
        return float(distinct[0]), float(distinct[0])
    means = _resampled_means(distinct, counts, seed, resamples)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled_means(distinct: np.ndarray, counts: np.ndarray, seed: int, resamples: int) -> np.ndarray:
    """Means of ``resamples`` bootstrap samples, drawn in chunks so that memory stays bounded."""
    n, generator = int(counts.sum()), np.random.default_rng(seed)
    step = max(1, _CHUNK // distinct.size)
    shares = counts / n
    parts = [
        generator.multinomial(n, shares, size=min(step, resamples - start)) @ distinct / n
        for start in range(0, resamples, step)
    ]
    return np.concatenate(parts)


def score_interval(only_first: int, only_second: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Tango's score interval of the difference of two paired proportions, ``(only_first - only_second) / n``.

    Unlike the bootstrap it stays honest when hardly any image is discordant: with none at all it reaches to
    z² / (n + z²) on both sides instead of claiming certainty.

    Source: T. Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", Statistics in Medicine 17 (1998), eqs. 7-10.

    ``only_first``: number of images that only the first classifier gets right. ``only_second``: number of images that
    only the second gets right. ``n``: number of images. ``level``: of confidence, two-sided. Returns low and high,
    ratios in [-1, 1].

    Raises:
        ValueError: counts below 0 or above ``n``.
    """
    if n < 1 or min(only_first, only_second) < 0 or only_first + only_second > n:
        raise ValueError(f"score_interval needs counts within n, got {only_first} and {only_second} of {n}")
    from scipy.optimize import brentq
    from scipy.special import ndtri

    z = float(ndtri(0.5 + level / 2))
    estimate = (only_first - only_second) / n

    def excess(delta: float) -> float:
        gap, variance = gap_and_variance(only_first, only_second, n, delta)
        return gap * gap - z * z * max(variance, 0.0)

    low = -1.0 if excess(-1.0) <= 0 else float(brentq(excess, -1.0, estimate - _BESIDE, xtol=1e-11))
    high = 1.0 if excess(1.0) <= 0 else float(brentq(excess, estimate + _BESIDE, 1.0, xtol=1e-11))
    return low, high


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided p-value that both classifiers are right equally often, from the images they disagree on.

    Given the number of discordant images, ``only_first`` is binomial with p = 1/2 under the hypothesis. The exact test
    doubles the smaller tail; mid-p, used here, counts the observed outcome half, which removes most of the exact test's
    conservatism and hardly ever exceeds the nominal level.

    Source: Q. McNemar, Psychometrika 12 (1947); Fagerland, Lydersen and Laake, "The McNemar test for binary
    matched-pairs data: mid-p and asymptotic are better than exact conditional", BMC Med. Res. Methodol. 13:91 (2013).

    ``only_first``: number of images that only the first classifier gets right. ``only_second``: number of images that
    only the second gets right. Returns p in [0, 1]; 1 where they never disagree.

    Raises:
        ValueError: a negative count.
    """
    if only_first < 0 or only_second < 0:
        raise ValueError(f"mcnemar needs counts of at least 0, got {only_first} and {only_second}")
    from scipy.stats import binom

    total, fewer = only_first + only_second, min(only_first, only_second)
    if total == 0:
        return 1.0
    return min(1.0, float(2 * binom.cdf(fewer, total, 0.5) - binom.pmf(fewer, total, 0.5)))
