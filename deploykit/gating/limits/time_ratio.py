"""``min_speedup`` and ``max_latency_ratio…``: ratios of two variants measured beside each other, never milliseconds."""

from __future__ import annotations

import math
from collections.abc import Callable

from deploykit.gating.evidence import Evidence, Wanted, measurement_of
from deploykit.gating.question import Case, Question, undecided
from deploykit.latency.results import medians
from deploykit.stats.multiple_tests import factor_needed
from deploykit.stats.ratio import LogRatio, change, log_ratio, normal_ratio, pooled

RAW, STATED = "raw samples", "the stated interval, taken as normal"


def speed_of(evidence: Evidence, name: str, reference: str, wanted: Wanted) -> tuple[LogRatio, str] | str:
    """The log speed-up of a variant over a reference variant of the same report, and what it was taken from.

    From the raw samples of both; where they are not there, from the stated speed-up over the report's own baseline. Two
    processes of the same engine may differ by more than their blocks tell, since each keeps its place in memory: by how much
    the two copies of the baseline that every measurement has differed, beyond their own interval, counts as one more
    standard deviation.

    Args:
        evidence: of one report.
        name: of the variant.
        reference: variant that times are divided by.
        wanted: the measurement.

    Returns:
        The distribution and its source, or why there is none.
    """
    seed, level = evidence.report.seed, evidence.report.ci_level
    parts = []
    for number, session in enumerate(evidence.sessions):
        ours, theirs = session.get(name), session.get(reference)
        rounds = sorted(ours.keys() & theirs.keys()) if ours and theirs else []
        if ours and theirs and rounds:
            slow, fast = medians(theirs, rounds), medians(ours, rounds)
            parts.append(with_floor(log_ratio(slow, fast, seed=seed + number), evidence.floors[number], level))
    if parts:
        return pooled(parts, seed=seed), RAW
    variant = evidence.variants[name]
    one = measurement_of(variant, wanted)
    if one is None or measurement_of(evidence.variants[reference], wanted) is None:
        return f"not measured: {told(wanted)} of {name} and {reference}"
    speedup = variant.speedup
    stated = reference == evidence.baseline and speedup is not None and speedup.of.plain() == wanted
    if not stated or speedup is None or speedup.low is None or speedup.high is None:
        return "the raw samples that this ratio needs are not there"
    blocks = one.blocks or 2
    found = normal_ratio(speedup.estimate, speedup.low, speedup.high, level, blocks)
    return with_floor(found, evidence.report.noise_floor_ratio, level), STATED


def with_floor(found: LogRatio, floor: float | None, level: float) -> LogRatio:
    """Widened by the difference of the two copies: their noise floor less the half width that such an interval has.

    ``found``: log of a time or speed-up. ``floor``: of the measurement, or None. ``level``: of its interval.
    """
    if not floor or not found.known:
        return found
    low, high = found.interval(level)
    return found.widened(max(0.0, math.log1p(floor) - (high - low) / 2))


def told(wanted: Wanted) -> str:
    """A measurement in words."""
    return ", ".join(f"{key} {value}" for key, value in wanted.items() if value is not None)


def min_speedup(case: Case) -> Question:
    """Speed-up over the report's baseline variant."""
    return _against_baseline(case, sign=1)


def max_latency_ratio(case: Case) -> Question:
    """Time over the baseline variant's."""
    return _against_baseline(case, sign=-1)


def _against_baseline(case: Case, sign: int) -> Question:
    base = case.new.baseline
    if base is None or base not in case.new.variants:
        return case.failed("the report names no baseline variant")
    found = speed_of(case.new, case.name, base, case.wanted)
    if isinstance(found, str):
        return case.failed(found)
    return log_question(case, found[0], found[1], sign, most=sign < 0)


def max_latency_ratio_vs_baseline(case: Case) -> Question:
    """How the time over a reference variant's grew since the older report; milliseconds are never compared."""
    if case.beside is not None:
        return _beside(case, case.beside)
    assert case.old is not None
    name, reference = case.name, case.reference or case.new.baseline
    for side, told in ((case.new, "this report"), (case.old, "the baseline report")):
        if reference is None or reference not in side.variants:
            return case.failed(f"{told} has no variant {reference!r} to divide times by")
        if name not in side.variants:
            return case.failed(f"{told} has no variant {name!r}")
    assert reference is not None
    now, before = (speed_of(side, name, reference, case.wanted) for side in (case.new, case.old))
    if isinstance(now, str):
        return case.failed(now)
    if isinstance(before, str):
        return case.failed(f"in the baseline report {before}")
    source = RAW if now[1] == before[1] == RAW else STATED
    return log_question(case, change(now[0], before[0]), source, -1, most=True)


def _beside(case: Case, other: str) -> Question:
    """Time over that of the variant that ``benchmark --against`` measured in the same rounds."""
    found = speed_of(case.new, case.name, other, case.wanted)
    variant = case.new.variants[case.name]
    speedup, one = variant.against.speedup if variant.against else None, measurement_of(variant, case.wanted)
    if isinstance(found, str) and speedup and speedup.of.plain() == case.wanted and speedup.low and speedup.high:
        blocks = (one.blocks if one else None) or 2
        level = case.new.report.ci_level
        stated = normal_ratio(speedup.estimate, speedup.low, speedup.high, level, blocks)
        found = with_floor(stated, case.new.report.noise_floor_ratio, level), STATED
    if isinstance(found, str):
        return case.failed(found)
    return log_question(case, found[0], found[1], -1, most=True)


def log_question(case: Case, found: LogRatio, source: str, sign: int, *, most: bool) -> Question:
    """The question of a number whose log is known: of its inverse where ``sign`` is -1, as time is that of speed."""
    value, log_limit = math.exp(sign * found.estimate), sign * math.log(case.limit)
    if not found.known:
        few = f"only {found.rounds} blocks were timed, an interval needs 5"
        return undecided(case.name, case.rule, few, case.limit, value)

    def interval(level: float) -> tuple[float, float]:
        ends = sorted(math.exp(sign * end) for end in found.interval(level))
        return ends[0], ends[1]

    return Question(
        case.name,
        case.rule,
        case.limit,
        value,
        most,
        interval,
        lambda: found.p_value(log_limit),
        _more(found, log_limit),
        source=source,
    )


def _more(found: LogRatio, log_limit: float) -> Callable[[float], str | None]:
    def told(alpha: float) -> str | None:
        factor = factor_needed(lambda k: found.grown(k).p_value(log_limit), alpha)
        if factor is None:
            return None
        return f"about {max(1, math.ceil((factor - 1) * found.rounds)):,} more blocks"

    return told
