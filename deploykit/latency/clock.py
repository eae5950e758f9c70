"""Timing single calls with the host's monotonic clock, and beside it with the device's own."""

from __future__ import annotations

import gc
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from deploykit.base.errors import SystemTrouble

LEAST_CALLS = 5


def time_block(
    call: Callable[[], object],
    block_ms: float,
    least: int = LEAST_CALLS,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> array[float]:
    """Time one block: one untimed call, then at least ``least`` calls and at least ``block_ms`` milliseconds.

    The garbage collector rests during the block. Reading the clock costs some 0.1 µs a call.

    ``call``: runs one batch and returns when its answer is complete. ``block_ms``: length of the block. ``least``:
    number of calls. ``clock``: monotonic, in ns. Returns milliseconds of each timed call, in order.

    Raises:
        SystemTrouble: the clock went backwards or stood still.
    """
    call()
    samples = array("d")
    add = samples.append
    with _without_collection():
        end = clock() + int(block_ms * 1e6)
        while True:
            before = clock()
            call()
            after = clock()
            add((after - before) / 1e6)
            if (after >= end and len(samples) >= least) or after <= before:
                break
    _check(samples)
    return samples


def time_block_on_device(
    call: Callable[[], float],
    block_ms: float,
    least: int = LEAST_CALLS,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> tuple[array[float], array[float]]:
    """As :func:`time_block`, for a call that returns what the device's clock counted: both times of every call.

    Returns milliseconds by the host's clock and by the device's, call by call.

    Raises:
        SystemTrouble: a clock went backwards or stood still.
    """
    call()
    host, device = array("d"), array("d")
    with _without_collection():
        end = clock() + int(block_ms * 1e6)
        while True:
            before = clock()
            counted = call()
            after = clock()
            host.append((after - before) / 1e6)
            device.append(counted)
            if (after >= end and len(host) >= least) or after <= before:
                break
    _check(host)
    _check(device)
    return host, device


@contextmanager
def _without_collection() -> Iterator[None]:
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _check(samples: array[float]) -> None:
    if min(samples) <= 0:
        raise SystemTrouble(
            "the clock went backwards or stood still while a call was timed",
            got=f"{min(samples):g} ms",
            fix="Measure where the monotonic clock can be trusted.",
        )
