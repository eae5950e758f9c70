"""The parent's side of the workers of one measurement: start, warm up, grant, check, and take out those that fail."""

from __future__ import annotations

import multiprocessing
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Any, Self

import numpy as np

from deploykit.base.progress import Progress
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.latency.arrivals import Arrivals
from deploykit.latency.machine import quietest_core
from deploykit.latency.results import Block, Measured, Status
from deploykit.latency.worker import Checked, Opener, Ready, serve

ANSWER_LIMIT_S = 900.0
END_LIMIT_S = 5.0


class WorkerFailed(Exception):
    """A worker's variant failed, crashed or hangs; ``status`` is ``failed`` or ``skipped``."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Worker:
    """One spawned process with one open variant. Use it in a ``with`` block: leaving it ends the process.

    ``name``: of the variant, for messages. ``opener``: how the process makes its subject. ``limit_s``: how long one
    answer may take before the worker counts as hung. ``core``: where its one thread stays once it is loaded; None:
    where the system puts it.
    """

    def __init__(
        self, name: str, opener: Opener, threads: int, limit_s: float = ANSWER_LIMIT_S, core: int | None = None
    ) -> None:
        self.name, self.limit_s = name, limit_s
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        arguments = (theirs, environment_of(threads) | opener.environment, pickle.dumps(opener), core)
        self._process = context.Process(target=serve, args=arguments, name=f"deploykit-{name}", daemon=True)
        self._process.start()
        theirs.close()

    def ready(self) -> Ready:
        """Wait until the variant is loaded and has answered once.

        Raises:
            WorkerFailed: it did not load, crashed, or answered NaN.
        """
        return self._answer("ready")[1]

    def block(self, name: str, block_ms: float) -> Block:
        """Grant one block of the call ``name`` and wait for its samples.

        Raises:
            WorkerFailed: it crashed or hangs.
        """
        self._send(("block", name, block_ms))
        _, host, device, energy_mj = self._answer("samples")
        on_device = None if device is None else np.frombuffer(device, dtype=np.float64)
        return Block(np.frombuffer(host, dtype=np.float64), on_device, energy_mj)

    def serve(self, arrivals: Arrivals) -> np.ndarray:
        """Let requests arrive and wait for their latencies: float64 [n] in ms, fewer where it fell too far behind.

        Raises:
            WorkerFailed: it crashed or hangs.
        """
        self._send(("serve", arrivals))
        return np.frombuffer(self._answer("served")[1], dtype=np.float64)

    def check(self) -> Checked:
        """Let the variant answer once more, and say how much memory it took.

        Raises:
            WorkerFailed: it crashed, or its answer holds NaN.
        """
        self._send(("check",))
        return self._answer("checked")[1]

    def finish(self) -> float:
        """Let it end; returns the processor time that it took, in seconds.

        Raises:
            WorkerFailed: it crashed.
        """
        self._send(("stop",))
        return float(self._answer("done")[1]["cpu_s"])

    def cpu_s(self) -> float:
        """Processor time of the process so far; 0 where it has ended."""
        import psutil

        try:
            times = psutil.Process(self._process.pid).cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)

    def _send(self, message: tuple[Any, ...]) -> None:
        try:
            self._connection.send(message)
        except (BrokenPipeError, ConnectionResetError):
            raise WorkerFailed("failed", self._how_it_died()) from None

    def _answer(self, kind: str) -> tuple[Any, ...]:
        try:
            if not self._connection.poll(self.limit_s):
                self._process.kill()
                raise WorkerFailed("failed", f"its worker did not answer within {self.limit_s:g} s")
            message: tuple[Any, ...] = self._connection.recv()
        except (EOFError, ConnectionResetError):
            raise WorkerFailed("failed", self._how_it_died()) from None
        if message[0] == "failed":
            raise WorkerFailed(message[1], message[2])
        assert message[0] == kind, f"worker {self.name} answered {message[0]}, expected {kind}"
        return message

    def _how_it_died(self) -> str:
        self._process.join(END_LIMIT_S)
        code = self._process.exitcode
        if code is None:
            return "its worker closed the connection"
        if code < 0:
            hint = " (the system may have run out of memory)" if code == -9 else ""
            return f"its worker was killed by signal {-code}{hint}"
        return f"its worker ended with exit code {code}"

    def close(self) -> None:
        """End the process, gently first."""
        self._connection.close()
        self._process.join(END_LIMIT_S if self._process.exitcode is None else 0)
        for end in (self._process.terminate, self._process.kill):
            if self._process.is_alive():
                end()
                self._process.join(END_LIMIT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._process.is_alive():
            self._process.terminate()
        self.close()


def environment_of(threads: int) -> dict[str, str]:
    """Environment of a worker: as many threads as asked for, which sleep instead of spin while others compute."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {name: str(threads) for name in names} | {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}


WINDOW = 3
TOLERANCE = 0.05
MOST_BLOCKS = 20


def is_stationary(medians: list[float]) -> bool:
    """Whether the last three blocks are not faster than the three before by more than 5 %."""
    if len(medians) < 2 * WINDOW:
        return False
    before, last = float(np.median(medians[-2 * WINDOW : -WINDOW])), float(np.median(medians[-WINDOW:]))
    return last >= before * (1 - TOLERANCE)


def warm_up(block: Callable[[], np.ndarray], limit_s: float) -> tuple[int, bool]:
    """Run blocks until they are stationary; at most 20, and none begins after ``limit_s`` seconds.

    ``block``: times one block and returns its samples in ms. ``limit_s``: of the whole warm-up. Returns the number of
    calls made, and whether the times had become stationary.
    """
    start, calls, medians = time.monotonic(), 0, list[float]()
    while len(medians) < MOST_BLOCKS and (not medians or time.monotonic() - start < limit_s):
        samples = block()
        calls += len(samples) + 1
        medians.append(float(np.median(samples)))
        if is_stationary(medians):
            return calls, True
    return calls, False


WARMUP_SHARE = 0.25
MOST_WARMUP_S = 5.0
LEAST_WARMUP_S = 1.0  # room for the six short blocks that a verdict needs


class Crew:
    """Variant → its worker, or several of them where it is loaded several times; rounds take turns.

    A worker that fails takes its variant out, and what failed is noted in ``found``.
    """

    def __init__(self, found: Measured, settings: BenchmarkConfig, stack: ExitStack) -> None:
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
            self._ended_cpu_s += worker.finish()
        worker.close()

    def drop(self, name: str) -> None:
        """Take a variant out."""
        for worker in self.workers.pop(name, []):
            worker.close()

    @contextmanager
    def recorded(self, name: str) -> Iterator[None]:
        """A context in which a worker's failure becomes its variant's."""
        try:
            yield
        except WorkerFailed as error:
            times = self.found.times[name]
            times.status, times.reason = error.status, error.reason
            self.drop(name)
