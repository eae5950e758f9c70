"""The process of one variant: it loads, then sleeps on a pipe and computes only when a block is granted."""

from __future__ import annotations

import math
import os
import pickle
import signal
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from deploykit.benchmarking.clock import time_block
from deploykit.benchmarking.subject import Opener, Subject


def serve(connection: Connection, environment: dict[str, str], opener: bytes) -> None:
    """Answer the parent until it says stop or goes away.

    The parent sends ``("block", timed, block_ms)`` or ``("stop",)``; the worker answers ``("ready", facts)`` once, then
    ``("samples", timed, bytes of float64 ms)`` per block, ``("done", facts)`` at the end, or ``("failed", status, reason)``.

    Args:
        connection: to the parent.
        environment: set before anything heavy is imported (threads).
        opener: a pickled :class:`Opener`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    sys.stdout.flush()
    os.dup2(2, 1)  # stdout belongs to the parent's one JSON object
    os.environ.update(environment)
    try:
        _serve(connection, opener)
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


def _serve(connection: Connection, opener: bytes) -> None:
    recipe: Opener = pickle.loads(opener)
    subject = recipe.function(*recipe.arguments)
    start = time.perf_counter()
    subject.load()
    problem = _not_finite(subject)
    cold_start_ms = (time.perf_counter() - start) * 1e3
    if problem is not None:
        connection.send(("failed", "failed", f"its first answer {problem}"))
        return
    calls = dict(subject.calls())
    connection.send(("ready", {"cold_start_ms": cold_start_ms, "calls": list(calls)}))
    while (message := connection.recv())[0] == "block":
        _, timed, block_ms = message
        connection.send(("samples", timed, time_block(calls[timed], block_ms).tobytes()))
    problem = _not_finite(subject)
    subject.close()
    if problem is not None:
        connection.send(("failed", "failed", f"its last answer {problem}"))
        return
    connection.send(("done", {"peak_memory_bytes": peak_memory_bytes()}))


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
