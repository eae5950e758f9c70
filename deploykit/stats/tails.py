"""What the bootstraps over blocks share: runs of neighbours, and tails that cover what they claim with few of them."""

from __future__ import annotations

import numpy as np


def expanded_tail(tail: float, n: int) -> float:
    """The normal tail that reaches as far as Student's t with n - 1 degrees of freedom, times sqrt(n / (n - 1)).

    Plain bootstrap percentiles of ``n`` independent units are too narrow where ``n`` is small.

    Source: Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69 (2015), section
    4.5 (expanded percentile interval).

    Args:
        tail: wished on each side, in (0, 0.5); 0.025 for 95 %.
        n: of independent units that are resampled, at least 2.
    """
    from scipy.special import ndtr, stdtrit

    return float(ndtr(np.sqrt(n / (n - 1)) * stdtrit(n - 1, tail)))


def circular_runs(n: int, resamples: int, generator: np.random.Generator) -> tuple[np.ndarray, int]:
    """Indices of the circular block bootstrap: int ``[resamples, n]``, and the number of runs in each resample.

    Units are resampled in runs of about n^(1/3) neighbours, because load that lasts longer than one unit leaves
    neighbours alike.

    Source: Politis and Romano, "A circular block-resampling procedure for stationary data" (1992); length of runs after
    Hall, Horowitz and Jing, "On blocking rules for the bootstrap with dependent data", Biometrika 82 (1995).
    """
    length = max(1, int(n ** (1 / 3) + 1e-9))
    runs = -(-n // length)
    starts = generator.integers(0, n, size=(resamples, runs, 1))
    return ((starts + np.arange(length)) % n).reshape(resamples, -1)[:, :n], runs
