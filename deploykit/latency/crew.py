"""The worker processes of one measurement: opened, granted, checked, and taken out when they fail."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress

import numpy as np

from deploykit.base.progress import Progress
from deploykit.latency.noise import quietest_core
from deploykit.latency.results import Block, Measured, Settings
from deploykit.latency.subject import Opener
from deploykit.latency.warmup import warm_up
from deploykit.latency.workers import Worker, WorkerFailed

WARMUP_SHARE = 0.25
MOST_WARMUP_S = 5.0
LEAST_WARMUP_S = 1.0  # room for the six short blocks that a verdict needs


class Crew:
    """Variant → its worker, or several of them where it is loaded several times; rounds take turns.

    A worker that fails takes its variant out, and what failed is noted in ``found``.
    """

    def __init__(self, found: Measured, settings: Settings, stack: ExitStack) -> None:
        self.found, self.settings, self._stack = found, settings, stack
        self.workers: dict[str, list[Worker]] = {}
        self._ended_cpu_s = 0.0
        self._core = quietest_core() if settings.threads == 1 else None

    @property
    def names(self) -> list[str]:
        """The variants that still work."""
        return list(self.workers)

    def open(self, openers: Mapping[str, Opener], progress: Progress) -> None:
        """Start and load them one after the other, each as often as ``settings.builds`` says."""
        with progress.task("open", total=len(openers) * self.settings.builds, unit="engines") as task:
            for name, opener in openers.items():
                cold = []
                self.workers[name] = []
                for _ in range(self.settings.builds):
                    worker = self._stack.enter_context(Worker(name, opener, self.settings.threads, core=self._core))
                    self.workers[name].append(worker)
                    with self.recorded(name):
                        facts = worker.ready()
                        cold.append(facts["cold_start_ms"])
                    task.advance(1)
                    if name not in self.workers:
                        break
                if cold:
                    times = self.found.times[name]
                    times.cold_start_ms, times.builds = float(np.median(cold)), len(cold)
                    times.device, times.fixed_batch = facts.get("device", "cpu"), facts.get("fixed_batch")

    def warm(self, progress: Progress, unnamed: Iterable[str]) -> None:
        """Warm everyone up until the times stop falling; those still falling at the limit are named in a warning."""
        settings = self.settings
        calls = len(self.workers) * len(settings.timed) * settings.builds
        limit_s = max(LEAST_WARMUP_S, min(MOST_WARMUP_S, WARMUP_SHARE * settings.max_time_s / max(1, calls)))
        unsteady = []
        with progress.task("warm up", total=len(self.workers), unit="variants") as task:
            for name in self.names:
                for timed in settings.timed:
                    for number in range(settings.builds):
                        if name not in self.workers:
                            break
                        with self.recorded(name):
                            worker = self.workers[name][number]
                            made, steady = warm_up(
                                lambda worker=worker, timed=timed: worker.block(timed, settings.block_ms).host,  # type: ignore[misc]
                                limit_s,
                            )
                            self.found.times[name].of(timed).warmup += made
                            if not steady and name not in unsteady and name not in unnamed:
                                unsteady.append(name)
                task.advance(1)
        if unsteady:
            self.found.warnings.append(f"not known to be steady when the warm-up ended: {', '.join(unsteady)}")

    def block(self, name: str, call: str, number: int, block_ms: float | None = None) -> Block:
        """One block of round ``number``, by the build whose turn it is."""
        workers = self.workers[name]
        return workers[number % len(workers)].block(call, block_ms or self.settings.block_ms)

    def check(self) -> None:
        """Let everyone answer once more, and note how much memory it took."""
        for name in self.names:
            for worker in list(self.workers.get(name, ())):
                with self.recorded(name):
                    facts = worker.check()
                    times = self.found.times[name]
                    peaks = [one for one in (times.peak_memory_bytes, facts["peak_memory_bytes"]) if one is not None]
                    times.peak_memory_bytes = max(peaks, default=None)
                    times.device_memory_bytes = facts["device_memory_bytes"]

    def keep_one(self, without: str) -> None:
        """End all but the first build of each variant, and the variant ``without``."""
        for worker in self.workers.pop(without, []):
            self._end(worker)
        for name, workers in self.workers.items():
            for worker in workers[1:]:
                self._end(worker)
            self.workers[name] = workers[:1]

    def end(self) -> None:
        """End everyone."""
        for name in self.names:
            for worker in self.workers.pop(name):
                self._end(worker)

    def cpu_s(self) -> float:
        """Processor time of this process and of all workers so far."""
        alive = sum(worker.cpu_s() for workers in self.workers.values() for worker in workers)
        return time.process_time() + alive + self._ended_cpu_s

    def _end(self, worker: Worker) -> None:
        with suppress(WorkerFailed):  # it was checked before; how it ends says nothing of what was measured
            self._ended_cpu_s += worker.finish()["cpu_s"]
        worker.close()

    def drop(self, name: str) -> None:
        """Take a variant out."""
        for worker in self.workers.pop(name, []):
            worker.close()

    def recorded(self, name: str) -> _Recorded:
        """A context in which a worker's failure becomes its variant's."""
        return _Recorded(name, self)


class _Recorded:
    def __init__(self, name: str, crew: Crew) -> None:
        self.name, self.crew = name, crew

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, WorkerFailed):
            return False
        times = self.crew.found.times[self.name]
        times.status, times.reason = error.status, error.reason
        self.crew.drop(self.name)
        return True
