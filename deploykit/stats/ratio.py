"""The paired speed-up: how much faster a candidate is than a baseline measured beside it, block by block.

What the bootstraps over blocks share: runs of neighbours, and tails that cover what they claim with few of them.

The paired speed-up as a distribution: intervals at any level, p-values, several measurements pooled.

:mod:`deploykit.stats.ratio` gives the interval of one measurement. A gate asks more of the same bootstrap: at which level a
limit leaves the interval, what several measurements say together, and how the ratio changed between two reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def expanded_tail(tail: float, n: int) -> float:
    """The normal tail that reaches as far as Student's t with n - 1 degrees of freedom, times sqrt(n / (n - 1)).

    Plain bootstrap percentiles of ``n`` independent units are too narrow where ``n`` is small.

    Source: Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69 (2015), section
    4.5 (expanded percentile interval).

    ``tail``: wished on each side, in (0, 0.5); 0.025 for 95 %. ``n``: of independent units that are resampled, at least
    2.
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


def speed_up(baseline: np.ndarray, candidate: np.ndarray) -> float:
    """The median over rounds of (baseline's time / candidate's time); above 1 the candidate is faster.

    Both blocks of a round were measured within moments of each other, so whatever slows the machine for longer than a
    round cancels in their ratio, which it does not in a ratio of medians taken from different minutes.

    ``baseline``: [rounds], typical time of each round's block, above 0, any unit. ``candidate``: [rounds], of the same
    rounds and unit.

    Raises:
        ValueError: no rounds, different numbers of them, or a time that is not above 0 and finite.
    """
    return float(np.exp(np.median(log_ratios(baseline, candidate))))


def speed_up_interval(
    baseline: np.ndarray, candidate: np.ndarray, level: float = 0.95, *, seed: int = 0, resamples: int = 2000
) -> tuple[float, float]:
    """The interval of :func:`speed_up`: circular block bootstrap over rounds.

    Rounds are resampled in runs of neighbours (:func:`deploykit.stats.ratio.circular_runs`). Plain percentiles are too
    narrow with so few runs (they covered 88 % instead of 95 % at 20 rounds in the simulation of the tests), so the tails
    are those of Student's t with as many runs (:func:`deploykit.stats.ratio.expanded_tail`).

    ``baseline``: [rounds]. ``candidate``: [rounds], of the same rounds. ``level``: of confidence, two-sided.
    ``resamples``: number of bootstrap samples.

    Raises:
        ValueError: as :func:`speed_up`, and fewer than 5 rounds.
    """
    logs = log_ratios(baseline, candidate)
    n = logs.size
    if n < 5:
        raise ValueError(f"speed_up_interval needs at least 5 rounds, got {n}")
    index, runs = circular_runs(n, resamples, np.random.default_rng(seed))
    medians = np.median(logs[index], axis=1)
    tail = expanded_tail((1 - level) / 2, runs)
    low, high = np.quantile(medians, [tail, 1 - tail])
    return float(np.exp(low)), float(np.exp(high))


def half_width(estimate: float, low: float, high: float) -> float:
    """How far the interval reaches from the estimate, as a ratio of it: the larger of both sides."""
    return max(high / estimate - 1, 1 - low / estimate)


def log_ratios(baseline: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """log(baseline / candidate) of each round: float64 [rounds]; checked as :func:`speed_up` says."""
    first = np.asarray(baseline, dtype=np.float64).ravel()
    second = np.asarray(candidate, dtype=np.float64).ravel()
    if first.size == 0 or first.size != second.size:
        raise ValueError(f"speed_up needs the same rounds of both, got {first.size} and {second.size}")
    if not (np.isfinite(first).all() and np.isfinite(second).all() and first.min() > 0 and second.min() > 0):
        raise ValueError("speed_up needs times above 0")
    return np.log(first) - np.log(second)


LEAST_ROUNDS = 5
RESAMPLES = 10_000
_CHUNK = 8_000_000


@dataclass(frozen=True)
class LogRatio:
    """A log speed-up with its bootstrap distribution.

    ``estimate``: log of the speed-up. ``draws``: float64 [resamples], sorted; empty below five rounds. ``runs``: of
    neighbouring rounds in each resample, the independent units (degrees of freedom and one). ``rounds``: that it was
    measured in, all measurements together.
    """

    estimate: float
    draws: np.ndarray
    runs: float
    rounds: int

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return self.draws.size > 0

    def interval(self, level: float) -> tuple[float, float]:
        """Low and high of the log ratio, two-sided; the tails are those of Student's t with as many runs."""
        tail = (1 - level) / 2
        from scipy.special import ndtr, stdtrit

        wide = float(ndtr(np.sqrt(self.runs / (self.runs - 1)) * stdtrit(self.runs - 1, tail)))
        if wide * self.draws.size < 1:  # beyond what was drawn: the normal tail
            reach = float(self.draws.std()) * abs(
                float(np.sqrt(self.runs / (self.runs - 1)) * stdtrit(self.runs - 1, tail))
            )
            low, high = self.estimate - reach, self.estimate + reach
            return min(low, float(self.draws[0])), max(high, float(self.draws[-1]))
        low, high = np.quantile(self.draws, [wide, 1 - wide])
        return min(float(low), self.estimate), max(float(high), self.estimate)

    def p_value(self, limit: float) -> float:
        """The two-sided p-value that the log ratio is ``limit``: the smallest alpha whose interval leaves it out."""
        from scipy.special import ndtr, ndtri, stdtr

        if limit == self.estimate:
            return 1.0
        beyond = self.draws >= limit if limit > self.estimate else self.draws <= limit
        share = float(np.count_nonzero(beyond)) / self.draws.size
        if share == 0:
            spread = float(self.draws.std())
            normal = float(ndtr(-abs(limit - self.estimate) / spread)) if spread > 0 else 0.0
            share = min(normal, 0.5 / self.draws.size)
        if share <= 0:
            return 0.0
        z = float(ndtri(min(share, 0.5))) * np.sqrt((self.runs - 1) / self.runs)
        return min(1.0, 2 * float(stdtr(self.runs - 1, z)))

    def widened(self, spread: float) -> LogRatio:
        """The same with an independent error of this standard deviation, in log, beside its own."""
        own = float(self.draws.var()) if self.known else 0.0
        if spread <= 0 or not self.known:
            return self
        if own < 1e-9 * spread**2:
            return _normal(self.estimate, spread, self.runs, self.rounds)
        draws = self.estimate + (self.draws - self.estimate) * np.sqrt(1 + spread**2 / own)
        return LogRatio(self.estimate, draws, self.runs, self.rounds)

    def grown(self, factor: float) -> LogRatio:
        """What ``factor`` times as many rounds of the same kind would show: draws pulled towards the estimate."""
        draws = self.estimate + (self.draws - self.estimate) / np.sqrt(factor)
        return LogRatio(self.estimate, draws, max(2.0, self.runs * factor), round(self.rounds * factor))


def log_ratio(baseline: np.ndarray, candidate: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES) -> LogRatio:
    """The bootstrap distribution of the log of :func:`deploykit.stats.ratio.speed_up`.

    ``baseline``: [rounds], typical time of each round's block. ``candidate``: [rounds], of the same rounds and unit.
    ``resamples``: number of bootstrap samples.

    Raises:
        ValueError: as :func:`deploykit.stats.ratio.speed_up`.
    """
    logs = log_ratios(baseline, candidate)
    n, estimate = logs.size, float(np.median(logs))
    if n < LEAST_ROUNDS:
        return LogRatio(estimate, np.empty(0), 0, n)
    generator = np.random.default_rng(seed)
    step, parts, runs = max(1, _CHUNK // n), list[np.ndarray](), 2
    for start in range(0, resamples, step):
        index, runs = circular_runs(n, min(step, resamples - start), generator)
        parts.append(np.median(logs[index], axis=1))
    return LogRatio(estimate, np.sort(np.concatenate(parts)), max(2, runs), n)


def pooled(parts: Sequence[LogRatio], *, seed: int = 0) -> LogRatio:
    """Several measurements of one ratio, each with processes of its own, as one.

    Each counts by its rounds. Where they differ by more than their own intervals allow (a process that got its memory
    elsewhere is some per cent faster for all its life), the distribution is widened by the variance between them.

    Source: DerSimonian and Laird, "Meta-analysis in clinical trials", Controlled Clinical Trials 7 (1986): the moment
    estimate of the variance between studies; Satterthwaite, Biometrics Bulletin 2 (1946): the degrees of freedom of both
    variances together, so that two measurements that disagree claim little.

    ``parts``: at least one; those below five rounds are left out where others are known.
    """
    known = [one for one in parts if one.known]
    if len(known) < 2:
        return known[0] if known else max(parts, key=lambda one: one.rounds)
    generator = np.random.default_rng(seed)
    weight = np.array([one.rounds for one in known], dtype=np.float64)
    weight /= weight.sum()
    estimates = np.array([one.estimate for one in known])
    variances = np.array([max(float(one.draws.var()), 1e-18) for one in known])
    estimate = float(weight @ estimates)
    draws = np.zeros(known[0].draws.size)
    for share, one in zip(weight, known, strict=True):
        draws += share * generator.permutation(one.draws)
    within = float(weight**2 @ variances)
    across = float((weight**2).sum()) * _variance_between(estimates, variances)
    widened = np.sqrt(1 + across / within)
    draws = estimate + (draws - float(draws.mean())) * widened
    freedom = (within + across) ** 2 / (
        within**2 / max(1.0, sum(one.runs for one in known) - 1) + across**2 / (len(known) - 1)
    )
    return LogRatio(estimate, np.sort(draws), 1 + freedom, sum(one.rounds for one in known))


def _variance_between(estimates: np.ndarray, variances: np.ndarray) -> float:
    inverse = 1 / variances
    mean = float(inverse @ estimates / inverse.sum())
    excess = float(inverse @ (estimates - mean) ** 2) - (len(estimates) - 1)
    scale = float(inverse.sum() - (inverse**2).sum() / inverse.sum())
    return max(0.0, excess / scale)


def change(new: LogRatio, old: LogRatio, *, seed: int = 0) -> LogRatio:
    """The log of new over old, from two independent measurements."""
    if not (new.known and old.known):
        return LogRatio(new.estimate - old.estimate, np.empty(0), 0, min(new.rounds, old.rounds))
    generator = np.random.default_rng(seed)
    size = min(new.draws.size, old.draws.size)
    draws = generator.choice(new.draws, size, replace=False) - generator.choice(old.draws, size, replace=False)
    return LogRatio(new.estimate - old.estimate, np.sort(draws), min(new.runs, old.runs), min(new.rounds, old.rounds))


def normal_ratio(estimate: float, low: float, high: float, level: float, rounds: int) -> LogRatio:
    """A distribution for a ratio of which only the interval is known: log-normal, as wide as the interval.

    ``low``: of its interval, above 0. ``rounds``: that it came from, at least 2.
    """
    from scipy.special import ndtri

    spread = float(np.log(high / low)) / (2 * float(ndtri(0.5 + level / 2)))
    return _normal(float(np.log(estimate)), spread, 10**6, rounds)


def _normal(estimate: float, spread: float, runs: float, rounds: int) -> LogRatio:
    from scipy.special import ndtri

    quantiles = ndtri((np.arange(RESAMPLES) + 0.5) / RESAMPLES)
    return LogRatio(estimate, estimate + spread * quantiles, runs, rounds)
