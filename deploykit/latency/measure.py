"""The measurement of all variants together: open, warm up, interleave, stop when the ratios are known."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from deploykit.base.environment import cores
from deploykit.base.progress import SILENT, Progress
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.latency import machine as noise
from deploykit.latency.interleave import schedule
from deploykit.latency.machine import Watch
from deploykit.latency.results import LEAST_ROUNDS, Measured, Ratio, Times, medians, ratio
from deploykit.latency.scenarios import measure_extras
from deploykit.latency.sweep import Threaded, thread_sweep
from deploykit.latency.worker import Opener
from deploykit.latency.workers import Crew
from deploykit.stats.ratio import half_width

__all__ = ["COPY", "Measured", "Ratio", "Times", "measure", "medians", "ratio"]

COPY = "\0baseline-copy"
CHECK_EVERY = 5


def measure(
    openers: Mapping[str, Opener],
    baseline: str,
    settings: BenchmarkConfig,
    progress: Progress = SILENT,
    threaded: Threaded | None = None,
    pairs: Sequence[tuple[str, str]] = (),
) -> Measured:
    """Time all variants beside each other.

    Each variant has a process of its own that lives until the end (or as many as ``builds``), the baseline has another
    (their ratio is the noise floor); the parent grants blocks, and exactly one process computes at a time. A variant that
    crashes, hangs or answers NaN is recorded as failed and the others go on. Scenarios and sweeps follow; what goes wrong
    in them is noted and leaves the primary figures as they are.

    ``openers``: variant → how its worker makes it. ``baseline``: name among them. ``threaded``: makes the openers of
    the thread sweep. ``pairs``: variant and its own reference: speed-ups that must be tight as well, beside those over
    the baseline. Returns all samples with their rounds; speed-ups are computed from them by :func:`ratio`.
    """
    found = Measured({name: Times() for name in openers})
    share = noise.busy_share()
    found.warnings += noise.load_warnings(share, settings.threads, cores())
    with ExitStack() as stack:
        copy = {COPY: openers[baseline]} if baseline in openers else {}
        found.times |= {name: Times() for name in copy}
        crew = Crew(found, settings, stack)
        crew.open({**openers, **copy}, progress)
        crew.warm(progress, unnamed=copy)
        watch, before_s = Watch(), crew.cpu_s()
        if crew.names:
            _run(crew, baseline, pairs, watch, progress)
        crew.check()
        found.conditions, disturbed = watch.finish(crew.cpu_s() - before_s)
        found.warnings += disturbed
        crew.keep_one(without=COPY)
        measure_extras(crew, progress)
        crew.end()
    _conclude(found, baseline, settings)
    if "threads" in settings.sweeps and threaded is not None:
        thread_sweep(threaded, found, settings, progress)
    return found


def _run(crew: Crew, baseline: str, pairs: Sequence[tuple[str, str]], watch: Watch, progress: Progress) -> None:
    found, settings = crew.found, crew.settings
    start = time.monotonic()
    rounds = schedule(crew.names, settings.timed, settings.seed)
    with progress.task("measure", total=round(settings.max_time_s), unit="s") as task:
        told = 0.0
        for number, slots in enumerate(rounds):
            for name, timed in slots:
                if name in crew.workers:
                    with crew.recorded(name):
                        found.times[name].of(timed).add(number, crew.block(name, timed, number))
            watch.sample()
            found.rounds = number + 1
            elapsed = time.monotonic() - start
            task.advance(elapsed - told, round=number + 1)
            told = elapsed
            if not crew.workers:
                return
            enough = found.rounds >= max(settings.min_blocks, LEAST_ROUNDS) and found.rounds % CHECK_EVERY == 0
            if enough and _tight(found, crew.names, baseline, pairs, settings):
                found.stop_reason = "interval"
                return
            if elapsed >= settings.max_time_s:
                found.stop_reason = "time limit"
                return


def _tight(
    found: Measured, working: list[str], baseline: str, pairs: Sequence[tuple[str, str]], settings: BenchmarkConfig
) -> bool:
    names = [name for name in working if name not in (baseline, COPY)] or [COPY]
    own = [pair for pair in pairs if all(name in working for name in pair)]
    for name, base in [*((name, baseline) for name in names), *own]:
        one = ratio(found, base, name, settings.timed[0], settings.ci_level, settings.seed)
        if one is None or one.low is None or one.high is None:
            return base not in working  # without a baseline there is no interval to wait for
        if half_width(one.estimate, one.low, one.high) > settings.until:
            return False
    return True


def _conclude(found: Measured, baseline: str, settings: BenchmarkConfig) -> None:
    primary = settings.timed[0]
    copy = ratio(found, baseline, COPY, primary, settings.ci_level, settings.seed)
    if copy is not None and copy.low is not None and copy.high is not None:
        found.noise_floor_ratio = noise.noise_floor((copy.low, copy.high))
    base = found.times.get(baseline)
    if base is not None and (blocks := base.of(primary).blocks):
        warning = noise.drift_warning(medians(blocks, sorted(blocks)))
        found.warnings += [warning] if warning else []
    found.times.pop(COPY, None)
    if found.rounds and found.rounds < LEAST_ROUNDS:
        found.warnings.append(f"only {found.rounds} rounds fitted into the time limit: no intervals")
