"""The process of one variant: it opens an artifact, sleeps on a pipe, and computes only when a block is granted."""

from __future__ import annotations

import math
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Protocol, Required, TypedDict

from deploykit.base.runner import DeviceTimed, bound_call
from deploykit.latency.arrivals import answer
from deploykit.latency.clock import time_block, time_block_on_device
from deploykit.latency.power import Meters, gpu

if TYPE_CHECKING:
    import numpy as np

    from deploykit.base.overrides import Stated
    from deploykit.base.runner import Runner
    from deploykit.base.spec import Spec
    from deploykit.latency.timed_input import TimedInput


class Facts(TypedDict, total=False):
    """What a variant says of itself once it is loaded: ``cpu`` or ``cuda``, and the only batch it takes, or None."""

    device: str
    fixed_batch: int | None


class Ready(Facts):
    """The same, with the time of load and first answer."""

    cold_start_ms: Required[float]


class Checked(TypedDict):
    """How much memory a variant took; None where that is not known."""

    peak_memory_bytes: int | None
    device_memory_bytes: int | None


class Opening(TypedDict, total=False):
    """Keyword arguments of :func:`deploykit.engines.open_runner`."""

    threads: int | None
    device: str
    stated: Stated
    allow_code: bool


class Subject(Protocol):
    """One variant inside its worker process. It is made with its libraries imported, but loads later.

    Calls are named ``compute`` and ``end_to_end``; ``compute/8`` is one of eight images instead of the usual number.
    """

    def load(self) -> None:
        """Load the engine; with the first answer this is the cold start."""

    def answer(self) -> np.ndarray:
        """One answer, any shape; the worker refuses NaN and infinity in it."""

    def facts(self) -> Facts:
        """What is known once it is loaded."""

    def call(self, name: str) -> Callable[[], object]:
        """What is timed under ``name``: a call without arguments that returns when its answer is complete."""

    def device_call(self, name: str) -> Callable[[], float] | None:
        """The same call, returning the milliseconds that the device's own clock counted; None where it has none."""

    def close(self) -> None:
        """Free the engine."""


@dataclass(frozen=True)
class Opener:
    """How a worker makes its subject: a function that pickles by name, and plain arguments."""

    function: Callable[..., Subject]
    arguments: tuple[Any, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


def split_name(name: str) -> tuple[str, int | None]:
    """``compute/8`` → ``("compute", 8)``; ``compute`` → ``("compute", None)``."""
    timed, _, images = name.partition("/")
    return timed, int(images) if images else None


def serve(connection: Connection, environment: dict[str, str], opener: bytes, core: int | None = None) -> None:
    """Answer the parent until it says stop or goes away.

    The parent sends ``("block", name, block_ms)``, ``("serve", Arrivals)``, ``("check",)`` or ``("stop",)``; the worker
    answers ``("ready", facts)`` once, then ``("samples", host, device, energy_mj)`` (bytes of float64 ms) per block,
    ``("served", ms)`` per stream of arrivals, ``("checked", facts)``, ``("done", facts)`` at the end, or
    ``("failed", status, reason)``.

    ``connection``: to the parent. ``environment``: set before anything heavy is imported (threads). ``opener``: a
    pickled :class:`Opener`. ``core``: where the thread that computes stays once it is loaded; None: anywhere.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    sys.stdout.flush()
    os.dup2(2, 1)  # stdout belongs to the parent's one JSON object
    os.environ.update(environment)
    try:
        _serve(connection, opener, core)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except MemoryError:
        connection.send(("failed", "failed", "out of memory"))
    except Exception as error:  # whatever a variant does is its own failure, not the run's
        from deploykit.base.errors import DeploykitError, Unavailable

        known = isinstance(error, DeploykitError)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        status = "skipped" if isinstance(error, Unavailable) else "failed"
        connection.send(("failed", status, " ".join(reason.split())[:500]))


def _serve(connection: Connection, opener: bytes, core: int | None) -> None:
    recipe: Opener = pickle.loads(opener)
    subject = recipe.function(*recipe.arguments)
    card = gpu()
    used = card.used_bytes() if card else None
    start = time.perf_counter()
    subject.load()
    problem = _not_finite(subject)
    cold_start_ms = (time.perf_counter() - start) * 1e3
    if problem is not None:
        connection.send(("failed", "failed", f"its first answer {problem}"))
        return
    device_bytes = _more(card.used_bytes() if card else None, used)
    connection.send(("ready", {"cold_start_ms": cold_start_ms, **subject.facts()}))
    if core is not None:
        with suppress(OSError):  # a core that was taken away since is no reason to fail
            os.sched_setaffinity(0, {core})
    timed, meters = _Timed(subject), Meters()
    while (message := connection.recv())[0] != "stop":
        if message[0] == "block":
            connection.send(("samples", *timed.block(message[1], message[2], meters)))
        elif message[0] == "serve":
            connection.send(("served", answer(message[1], timed.call).tobytes()))
        else:
            problem = _not_finite(subject)
            if problem is not None:
                connection.send(("failed", "failed", f"its last answer {problem}"))
                return
            facts = {"peak_memory_bytes": peak_memory_bytes(), "device_memory_bytes": device_bytes}
            connection.send(("checked", facts))
    subject.close()
    connection.send(("done", {"cpu_s": time.process_time()}))


class _Timed:
    """The calls of one subject, each made when first asked for."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._calls: dict[str, Callable[[], object]] = {}
        self._device: dict[str, Callable[[], float] | None] = {}

    def call(self, name: str) -> Callable[[], object]:
        if name not in self._calls:
            self._calls[name] = self._subject.call(name)
        return self._calls[name]

    def block(self, name: str, block_ms: float, meters: Meters) -> tuple[bytes, bytes | None, float | None]:
        """One block: host times, device times where there are any, and mJ of a call where there is a meter."""
        if name not in self._device:
            self._device[name] = self._subject.device_call(name)
        on_device, before = self._device[name], meters.now()
        if on_device is not None:
            host, device = time_block_on_device(on_device, block_ms)
        else:
            host, device = time_block(self.call(name), block_ms), None
        drawn = meters.since(before)
        energy_mj = None if drawn is None else drawn / (len(host) + 1)
        return host.tobytes(), None if device is None else device.tobytes(), energy_mj


def _more(after: int | None, before: int | None) -> int | None:
    return None if after is None or before is None or after <= before else after - before


def _not_finite(subject: Subject) -> str | None:
    import numpy as np

    answer: Any = np.asarray(subject.answer())
    if answer.size == 0:
        return "is empty"
    bad = int(answer.size - np.isfinite(answer).sum())
    return f"holds {bad} NaN or infinite numbers of {answer.size}" if bad else None


def peak_memory_bytes() -> int | None:
    """The most resident memory this process ever had; the parent's does not count, unlike in ``ru_maxrss``."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most) * (1 if sys.platform == "darwin" else 1024) if math.isfinite(most) else None


class TimedRunner:
    """One artifact on its target; see :class:`deploykit.latency.worker.Subject`.

    ``compute`` runs input that already lies in the engine's memory and leaves the answer there. ``end_to_end`` starts
    from what ``source`` is: of images preprocessing, the copies in and out, and the run.
    """

    def __init__(self, spec: Spec, source: TimedInput, options: Opening) -> None:
        from deploykit.engines import engine_of

        assert spec.target is not None
        engine_of(spec.target)  # libraries are imported before the cold start is timed
        self.spec, self.source, self.options = spec, source, options
        self._runner: Runner | None = None

    def load(self) -> None:
        """Open the engine."""
        from deploykit.engines import open_runner

        self._runner = open_runner(self.spec, **self.options)

    @property
    def runner(self) -> Runner:
        """The open engine."""
        assert self._runner is not None
        return self._runner

    def facts(self) -> Facts:
        """The device it computes on, and the only batch it takes."""
        return {"device": self.runner.device, "fixed_batch": self.source.fixed_batch(self.runner)}

    def answer(self) -> np.ndarray:
        """What it answers to the timed input."""
        return self.source.end_to_end(self.runner)()

    def call(self, name: str) -> Callable[[], object]:
        """The call ``compute`` or ``end_to_end``; ``compute/8`` for eight images, in as many runs as the engine needs."""
        timed, count = split_name(name)
        if timed == "end_to_end":
            return self.source.end_to_end(self.runner)
        x, runs = self.source.of(self.runner, count)
        once = bound_call(self.runner, x)
        if runs == 1:
            return once

        def several() -> None:
            for _ in range(runs):
                once()

        return several

    def device_call(self, name: str) -> Callable[[], float] | None:
        """``compute`` timed by the device, where the engine can (:class:`deploykit.base.runner.DeviceTimed`)."""
        timed, count = split_name(name)
        runner = self.runner
        if timed == "end_to_end" or not isinstance(runner, DeviceTimed):
            return None
        x, runs = self.source.of(runner, count)
        return None if runs > 1 else runner.prebound_on_device(x)

    def close(self) -> None:
        """Close the engine."""
        if self._runner is not None:
            self._runner.close()


def open_timed(spec: Spec, source: TimedInput, options: Opening) -> TimedRunner:
    """The function that a worker calls by name.

    ``spec``: with its target. ``source``: of what it is timed with. ``options``: keyword arguments of ``open_runner``.
    """
    return TimedRunner(spec, source, options)
