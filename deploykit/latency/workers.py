"""The parent's side of the workers: start, grant, watch, end."""

from __future__ import annotations

import multiprocessing
import pickle
from types import TracebackType
from typing import Any, Self

import numpy as np

from deploykit.latency.arrivals import Arrivals
from deploykit.latency.results import Block
from deploykit.latency.subject import Opener
from deploykit.latency.worker import serve

ANSWER_LIMIT_S = 900.0
END_LIMIT_S = 5.0


class WorkerFailed(Exception):
    """A worker's variant failed, crashed or hangs; ``status`` is ``failed`` or ``skipped``."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Worker:
    """One spawned process with one open variant. Use it in a ``with`` block: leaving it ends the process.

    Args:
        name: of the variant, for messages.
        opener: how the process makes its subject.
        threads: of the CPU, set in the process before any library loads.
        limit_s: how long one answer may take before the worker counts as hung.
        core: where its one thread stays once it is loaded; None: where the system puts it.
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

    def ready(self) -> dict[str, Any]:
        """Wait until the variant is loaded and has answered once: cold_start_ms, and what it says of itself.

        Raises:
            WorkerFailed: it did not load, crashed, or answered NaN.
        """
        facts: dict[str, Any] = self._answer("ready")[1]
        return facts

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

    def check(self) -> dict[str, Any]:
        """Let the variant answer once more: peak_memory_bytes, device_memory_bytes (None where not known).

        Raises:
            WorkerFailed: it crashed, or its answer holds NaN.
        """
        self._send(("check",))
        facts: dict[str, Any] = self._answer("checked")[1]
        return facts

    def finish(self) -> dict[str, Any]:
        """Let it end: cpu_s, the processor time that it took.

        Raises:
            WorkerFailed: it crashed.
        """
        self._send(("stop",))
        facts: dict[str, Any] = self._answer("done")[1]
        return facts

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
