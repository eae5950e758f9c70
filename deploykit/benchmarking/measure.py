"""The measurement of all variants together: open, warm up, interleave, stop when the ratios are known."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from deploykit.base.progress import SILENT, Progress
from deploykit.benchmarking import noise
from deploykit.benchmarking.pool import Worker, WorkerFailed
from deploykit.benchmarking.schedule import schedule
from deploykit.benchmarking.subject import Opener
from deploykit.benchmarking.warmup import warm_up
from deploykit.stats.ratio import half_width, speed_up, speed_up_interval

COPY = "\0baseline-copy"
CHECK_EVERY = 5
LEAST_ROUNDS = 5
WARMUP_SHARE = 0.25
MOST_WARMUP_S = 5.0
LEAST_WARMUP_S = 1.0  # room for the six short blocks that a verdict needs


@dataclass(frozen=True)
class Settings:
    """How to measure; see :class:`deploykit.base.config.measure.BenchmarkConfig` for the fields of the same names."""

    threads: int = 1
    until: float = 0.02
    max_time_s: float = 60.0
    min_blocks: int = 20
    block_ms: float = 50.0
    timed: tuple[str, ...] = ("compute", "end_to_end")
    ci_level: float = 0.95
    seed: int = 0


@dataclass
class Times:
    """What was measured of one variant.

    Attributes:
        status: ``ok``, ``failed`` or ``skipped``.
        reason: why not ok.
        cold_start_ms: load and first answer.
        peak_memory_bytes: resident, of its worker.
        warmup: what was timed → calls made before its first recorded block.
        blocks: what was timed → round → samples [n] in ms.
    """

    status: str = "ok"
    reason: str | None = None
    cold_start_ms: float | None = None
    peak_memory_bytes: int | None = None
    warmup: dict[str, int] = field(default_factory=dict)
    blocks: dict[str, dict[int, np.ndarray]] = field(default_factory=dict)


@dataclass(frozen=True)
class Ratio:
    """A paired speed-up over the baseline; no interval below five common rounds."""

    estimate: float
    low: float | None
    high: float | None


@dataclass
class Measured:
    """The whole measurement.

    Attributes:
        times: variant → what was measured.
        stop_reason: ``interval`` or ``time limit``; None where nothing could be timed.
        noise_floor_ratio: of the two copies of the baseline; None where there is no interval.
        warnings: what disturbed it.
        rounds: number of rounds.
    """

    times: dict[str, Times]
    stop_reason: str | None = None
    noise_floor_ratio: float | None = None
    warnings: list[str] = field(default_factory=list)
    rounds: int = 0


def measure(openers: Mapping[str, Opener], baseline: str, settings: Settings, progress: Progress = SILENT) -> Measured:
    """Time all variants beside each other.

    Each variant has a process of its own that lives until the end, the baseline has two (their ratio is the noise
    floor); the parent grants blocks, and exactly one process computes at a time. A variant that crashes, hangs or
    answers NaN is recorded as failed and the others go on.

    Args:
        openers: variant → how its worker makes it.
        baseline: name among them.
        settings: how.
        progress: one bar of seconds.

    Returns:
        All samples with their rounds; speed-ups are computed from them by :func:`ratio`.
    """
    found = Measured({name: Times() for name in openers})
    share = noise.busy_share()
    found.warnings += noise.load_warnings(share, settings.threads, noise.cores())
    with ExitStack() as stack:
        copy = {COPY: openers[baseline]} if baseline in openers else {}
        found.times |= {name: Times() for name in copy}
        workers = _open({**openers, **copy}, settings, found, stack, progress)
        _warm(workers, settings, found, progress)
        if workers:
            _run(workers, baseline, settings, found, progress)
        for name, worker in list(workers.items()):
            with _Recorded(name, workers, found):
                found.times[name].peak_memory_bytes = worker.finish()["peak_memory_bytes"]
    _conclude(found, baseline, settings)
    return found


class _Recorded:
    """Turns a worker's failure into its variant's, and takes it out of the run."""

    def __init__(self, name: str, workers: dict[str, Worker], found: Measured) -> None:
        self.name, self.workers, self.found = name, workers, found

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, WorkerFailed):
            return False
        times = self.found.times[self.name]
        times.status, times.reason = error.status, error.reason
        worker = self.workers.pop(self.name, None)
        if worker is not None:
            worker.close()
        return True


def _open(
    openers: Mapping[str, Opener], settings: Settings, found: Measured, stack: ExitStack, progress: Progress
) -> dict[str, Worker]:
    workers: dict[str, Worker] = {}
    with progress.task("open", total=len(openers), unit="variants") as task:
        for name, opener in openers.items():
            worker = workers[name] = stack.enter_context(Worker(name, opener, settings.threads))
            with _Recorded(name, workers, found):
                found.times[name].cold_start_ms = worker.ready()["cold_start_ms"]
            task.advance(1)
    return workers


def _warm(workers: dict[str, Worker], settings: Settings, found: Measured, progress: Progress) -> None:
    share = WARMUP_SHARE * settings.max_time_s / max(1, len(workers) * len(settings.timed))
    limit_s = max(LEAST_WARMUP_S, min(MOST_WARMUP_S, share))
    unsteady = []
    with progress.task("warm up", total=len(workers), unit="variants") as task:
        for name, worker in list(workers.items()):
            for timed in settings.timed:
                if name not in workers:
                    break
                with _Recorded(name, workers, found):
                    calls, steady = warm_up(
                        lambda worker=worker, timed=timed: worker.block(timed, settings.block_ms),  # type: ignore[misc]
                        limit_s,
                    )
                    found.times[name].warmup[timed] = calls
                    if not steady and name != COPY and name not in unsteady:
                        unsteady.append(name)
            task.advance(1)
    if unsteady:
        found.warnings.append(f"not known to be steady when the warm-up ended: {', '.join(unsteady)}")


def _run(workers: dict[str, Worker], baseline: str, settings: Settings, found: Measured, progress: Progress) -> None:
    start = time.monotonic()
    rounds = schedule(list(workers), settings.timed, settings.seed)
    with progress.task("measure", total=round(settings.max_time_s), unit="s") as task:
        told = 0.0
        for number, slots in enumerate(rounds):
            for name, timed in slots:
                if name in workers:
                    with _Recorded(name, workers, found):
                        samples = workers[name].block(timed, settings.block_ms)
                        found.times[name].blocks.setdefault(timed, {})[number] = samples
            found.rounds = number + 1
            elapsed = time.monotonic() - start
            task.advance(elapsed - told, round=number + 1)
            told = elapsed
            if not workers:
                return
            enough = found.rounds >= max(settings.min_blocks, LEAST_ROUNDS) and found.rounds % CHECK_EVERY == 0
            if enough and _tight(found, workers, baseline, settings):
                found.stop_reason = "interval"
                return
            if elapsed >= settings.max_time_s:
                found.stop_reason = "time limit"
                return


def _tight(found: Measured, workers: Mapping[str, Worker], baseline: str, settings: Settings) -> bool:
    names = [name for name in workers if name not in (baseline, COPY)] or [COPY]
    for name in names:
        one = ratio(found, baseline, name, settings.timed[0], settings.ci_level, settings.seed)
        if one is None or one.low is None or one.high is None:
            return baseline not in workers  # without a baseline there is no interval to wait for
        if half_width(one.estimate, one.low, one.high) > settings.until:
            return False
    return True


def ratio(found: Measured, baseline: str, name: str, timed: str, level: float = 0.95, seed: int = 0) -> Ratio | None:
    """The paired speed-up of a variant over the baseline from their common rounds; None where there are none."""
    if baseline not in found.times or name not in found.times:
        return None
    ours, theirs = found.times[name].blocks.get(timed, {}), found.times[baseline].blocks.get(timed, {})
    rounds = sorted(ours.keys() & theirs.keys())
    if not rounds:
        return None
    slow, fast = medians(theirs, rounds), medians(ours, rounds)
    estimate = speed_up(slow, fast)
    if len(rounds) < LEAST_ROUNDS:
        return Ratio(estimate, None, None)
    low, high = speed_up_interval(slow, fast, level, seed=seed)
    return Ratio(estimate, min(low, estimate), max(high, estimate))


def medians(blocks: Mapping[int, np.ndarray], rounds: Sequence[int] | Iterator[int]) -> np.ndarray:
    """The median time of each round's block, in ms."""
    return np.array([float(np.median(blocks[number])) for number in rounds])


def _conclude(found: Measured, baseline: str, settings: Settings) -> None:
    primary = settings.timed[0]
    copy = ratio(found, baseline, COPY, primary, settings.ci_level, settings.seed)
    if copy is not None and copy.low is not None and copy.high is not None:
        found.noise_floor_ratio = noise.noise_floor((copy.low, copy.high))
    base = found.times.get(baseline)
    if base is not None and (blocks := base.blocks.get(primary)):
        warning = noise.drift_warning(medians(blocks, sorted(blocks)))
        found.warnings += [warning] if warning else []
    found.times.pop(COPY, None)
    if found.rounds and found.rounds < LEAST_ROUNDS:
        found.warnings.append(f"only {found.rounds} rounds fitted into the time limit: no intervals")
