"""A variant that waits: what a worker opens for the benchmark of the gate."""

from __future__ import annotations

import time
from collections.abc import Callable

from deploykit.latency.worker import TimedRunner, open_timed

SLOWED = "slowed"
BY = 0.05


class Waiting(TimedRunner):
    """Waits 5 % of what each call took, so that it is 5 % slower whatever else the machine does."""

    def call(self, name: str) -> Callable[[], object]:
        return _waiting(super().call(name))


def _waiting(call: Callable[[], object]) -> Callable[[], object]:
    clock = time.perf_counter_ns

    def slowed() -> object:
        start = clock()
        answer = call()
        took = clock() - start
        end = start + int((1 + BY) * took)
        while clock() < end:
            pass
        return answer

    return slowed


def open_slowed(spec, *rest):
    """In place of :func:`deploykit.latency.worker.open_timed`."""
    return Waiting(spec, *rest) if spec.name == SLOWED else open_timed(spec, *rest)
