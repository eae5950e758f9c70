"""McNemar's test: do two classifiers err on the same images equally often?"""

from __future__ import annotations

from typing import Literal


def mcnemar(only_first: int, only_second: int, method: Literal["mid-p", "exact"] = "mid-p") -> float:
    """The two-sided p-value that both classifiers are right equally often, from the images they disagree on.

    Given the number of discordant images, ``only_first`` is binomial with p = 1/2 under the hypothesis. The exact test
    doubles the smaller tail; mid-p counts the observed outcome half, which removes most of the exact test's conservatism
    and hardly ever exceeds the nominal level.

    Source: Q. McNemar, Psychometrika 12 (1947); Fagerland, Lydersen and Laake, "The McNemar test for binary
    matched-pairs data: mid-p and asymptotic are better than exact conditional", BMC Med. Res. Methodol. 13:91 (2013).

    Args:
        only_first: number of images that only the first classifier gets right.
        only_second: number of images that only the second gets right.
        method: ``mid-p`` or ``exact``.

    Returns:
        p in [0, 1]; 1 where they never disagree.

    Raises:
        ValueError: a negative count.
    """
    if only_first < 0 or only_second < 0:
        raise ValueError(f"mcnemar needs counts of at least 0, got {only_first} and {only_second}")
    from scipy.stats import binom

    total, fewer = only_first + only_second, min(only_first, only_second)
    if total == 0:
        return 1.0
    both_tails = 2 * float(binom.cdf(fewer, total, 0.5))
    if method == "mid-p":
        both_tails -= float(binom.pmf(fewer, total, 0.5))
    return min(1.0, both_tails)
