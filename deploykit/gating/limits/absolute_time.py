"""``max_latency_ms``, ``max_p99_ms`` and ``min_images_per_s``: limits in units of time, for one machine that the policy names.

Times of two machines, or of one in another mood, are not comparable: a report of another machine than the policy's cannot
tell. The machine's mood counts as an error of the size of the noise floor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from deploykit.gating.evidence import measurement_of
from deploykit.gating.limits.time_ratio import RAW, STATED, log_question, told, with_floor
from deploykit.gating.question import Case, Question, undecided
from deploykit.reporting.compare import machine_of
from deploykit.reporting.schema import Measurement
from deploykit.stats.percentiles import least_queries, percentile, percentile_draws
from deploykit.stats.ratio import LEAST_ROUNDS, RESAMPLES, LogRatio, circular_runs, log_ratio, normal_ratio, pooled

Blocks = Sequence[np.ndarray]


def max_latency_ms(case: Case) -> Question:
    """Median time of a call, over blocks."""
    return _limit(case, _log_median, most=True, stated=_stated_median)


def max_p99_ms(case: Case) -> Question:
    """99th percentile of all calls; undecided with fewer than 662 calls, which LoadGen asks for at least."""
    least = least_queries(1, 0.99)
    one = measurement_of(case.new.variants[case.name], case.wanted)
    raw = [part for session in case.new.sessions for part in session.get(case.name, {}).values()]
    calls = sum(map(len, raw)) or (one.n if one is not None else least)
    if one is not None and calls < least:
        few = f"only {calls:,} calls were timed, p99 needs {least:,}"
        return _of_machine(case) or undecided(case.name, case.rule, few, case.limit, one.p99_ms)
    return _limit(case, _log_p99, most=True)


def min_images_per_s(case: Case) -> Question:
    """Images a second, from the mean time of a call; of the server scenario, the highest rate that kept its bound."""
    one = measurement_of(case.new.variants[case.name], case.wanted)
    if one is not None and one.scenario == "server" and one.throughput_per_s is not None:
        return _of_machine(case) or Question(
            case.name, case.rule, case.limit, one.throughput_per_s, most=False, exact=True, source="one search"
        )
    batch = 1 if one is None else one.batch
    return _limit(case, lambda blocks, seed: _log_rate(blocks, batch, seed), most=False)


def _of_machine(case: Case) -> Question | None:
    """Undecided where the report is not of the machine that the policy names."""
    here = machine_of(case.new.report)
    if case.machine is None:
        why = f"the policy names no machine, and this report is of {here!r}: write machine: {here!r} into it if it is meant"
    elif " ".join(case.machine.split()).lower() == " ".join(here.split()).lower():
        return None
    else:
        why = f"the limit holds for {case.machine!r}, and this report is of {here!r}"
    return undecided(case.name, case.rule, why, case.limit)


def _limit(
    case: Case,
    log_of: Callable[[Blocks, int], LogRatio],
    *,
    most: bool,
    stated: Callable[[Measurement, float], LogRatio | None] = lambda one, level: None,
) -> Question:
    """The question of a number whose log ``log_of`` takes from the blocks of each measurement, or ``stated`` from the report."""
    report, one = case.new.report, measurement_of(case.new.variants[case.name], case.wanted)
    if one is None:
        return case.failed(f"not measured: {told(case.wanted)}")
    if (elsewhere := _of_machine(case)) is not None:
        return elsewhere
    parts = []
    for number, session in enumerate(case.new.sessions):
        if blocks := session.get(case.name):
            found = log_of([blocks[key] for key in sorted(blocks)], report.seed + number)
            parts.append(with_floor(found, case.new.floors[number], report.ci_level))
    if parts:
        return log_question(case, pooled(parts, seed=report.seed), RAW, 1, most=most)
    known = stated(one, report.ci_level)
    if known is None:
        return undecided(case.name, case.rule, "the raw samples that this limit needs are not there", case.limit)
    return log_question(case, with_floor(known, report.noise_floor_ratio, report.ci_level), STATED, 1, most=most)


def _log_median(blocks: Blocks, seed: int) -> LogRatio:
    times = np.array([float(np.median(part)) for part in blocks])
    return log_ratio(times, np.ones(len(times)), seed=seed)


def _stated_median(one: Measurement, level: float) -> LogRatio | None:
    if one.p50_ms_low is None or one.p50_ms_high is None:
        return None
    return normal_ratio(one.p50_ms, one.p50_ms_low, one.p50_ms_high, level, one.blocks or 2)


def _log_p99(blocks: Blocks, seed: int) -> LogRatio:
    estimate = math.log(percentile(np.concatenate(blocks), 0.99))
    if len(blocks) < LEAST_ROUNDS:
        return LogRatio(estimate, np.empty(0), 0, len(blocks))
    draws, runs = percentile_draws(blocks, 0.99, seed=seed)
    return LogRatio(estimate, np.sort(np.log(draws)), max(2, runs), len(blocks))


def _log_rate(blocks: Blocks, batch: int, seed: int) -> LogRatio:
    sums, counts = (np.array([of(part) for part in blocks], np.float64) for of in (np.sum, np.size))
    estimate = math.log(1e3 * batch * counts.sum() / sums.sum())
    if len(blocks) < LEAST_ROUNDS:
        return LogRatio(estimate, np.empty(0), 0, len(blocks))
    index, runs = circular_runs(len(blocks), RESAMPLES, np.random.default_rng(seed))
    rates = 1e3 * batch * counts[index].sum(axis=1) / sums[index].sum(axis=1)
    return LogRatio(estimate, np.sort(np.log(rates)), max(2, runs), len(blocks))
