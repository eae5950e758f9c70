"""Sweeps over batch size and threads: how the throughput grows, and where it stops growing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress

import numpy as np

from deploykit.base.environment import cores
from deploykit.base.progress import Progress
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.latency.results import Extra, Measured, Series, paired
from deploykit.latency.worker import Opener
from deploykit.latency.workers import Crew, Worker, WorkerFailed

GAIN = 0.05
ROUNDS = 6
LARGEST = 4096
MEMORY_SHARE = 0.8


def batch_sweep(crew: Crew, limit_s: float, progress: Progress) -> None:
    """Batch sizes 1, 2, 4 … of all variants, until the throughput of each gains less than 5 % or memory ends.

    Each size is timed beside the one before it, round by round, so that the gain is a paired ratio. Whether memory ends
    is foreseen from what the last doubling took.
    """
    end = time.monotonic() + limit_s
    active = []
    for name in crew.names:
        fixed = crew.found.times[name].fixed_batch
        if fixed is None:
            active.append(name)
        else:
            crew.found.times[name].notes.append(f"batch sweep: the engine takes only batch {fixed}")
    peaks: dict[str, list[int]] = {name: [] for name in active}
    batch = 1
    with progress.task("batch sweep", total=None, unit="batch sizes") as task:
        while active and batch <= LARGEST:
            found = {}
            for name, series in _beside(crew, active, batch).items():
                crew.found.times[name].extras.append(
                    Extra("single_stream", batch, crew.settings.threads, series[batch], "batch")
                )
                found[name] = series
            task.advance(1)
            active = [
                name for name in found if name in crew.workers and _goes_on(crew, name, found[name], batch, peaks)
            ]
            if active and time.monotonic() > end:
                for name in active:
                    crew.found.times[name].notes.append(f"batch sweep: ended at batch {batch} by the time limit")
                return
            batch *= 2


def _beside(crew: Crew, names: list[str], batch: int) -> dict[str, dict[int, Series]]:
    """The batch and half of it, in the same rounds."""
    sizes = [batch] if batch == 1 else [batch // 2, batch]
    found = {name: {size: Series() for size in sizes} for name in names}
    generator = np.random.default_rng([crew.settings.seed, batch])
    slots = [(name, size) for name in names for size in sizes]
    for number in range(-1, ROUNDS):
        for i in generator.permutation(len(slots)):
            name, size = slots[i]
            if name not in crew.workers:
                continue
            try:
                block = crew.block(name, f"compute/{size}", 0)
            except WorkerFailed as error:
                crew.found.times[name].notes.append(f"batch sweep: ended at batch {batch}: {error.reason}")
                crew.drop(name)
                continue
            if number < 0:
                found[name][size].warmup = len(block.host) + 1
            else:
                found[name][size].add(number, block)
    return {name: series for name, series in found.items() if name in crew.workers}


def _goes_on(crew: Crew, name: str, series: Mapping[int, Series], batch: int, peaks: dict[str, list[int]]) -> bool:
    """Whether doubling the batch once more is worth it and safe."""
    import psutil

    notes = crew.found.times[name].notes
    if batch > 1:
        gain = paired(series[batch // 2].blocks, series[batch].blocks)
        if gain is not None and 2 * gain.estimate < 1 + GAIN:
            notes.append(
                f"batch sweep: ended at batch {batch}, whose throughput gains {2 * gain.estimate - 1:+.1%} over {batch // 2}"
            )
            return False
    with suppress(WorkerFailed):
        peaks[name].append(crew.workers[name][0].check()["peak_memory_bytes"] or 0)
    grown = 2 * (peaks[name][-1] - peaks[name][-2]) if len(peaks[name]) > 1 else 0
    free = psutil.virtual_memory().available
    if grown > MEMORY_SHARE * free:
        notes.append(
            f"batch sweep: ended at batch {batch}: the next one would not fit into {free / 1e9:.1f} GB of memory"
        )
        return False
    return True


Threaded = Callable[[str, int], Opener]
"""Variant and number of threads → how a worker makes it."""


def thread_sweep(opener: Threaded, found: Measured, settings: BenchmarkConfig, progress: Progress) -> None:
    """Threads 1, 2, 4 … up to the cores, variant by variant: one process per number, interleaved.

    Variants that do not compute on the CPU are left out, and so are those that failed.
    """
    counts = doublings(cores())
    names = [name for name, times in found.times.items() if times.status == "ok"]
    with progress.task("thread sweep", total=len(names), unit="variants") as task:
        for name in names:
            if found.times[name].device == "cpu":
                _threads_of(name, opener, counts, found, settings)
            task.advance(1)


def doublings(most: int) -> list[int]:
    """1, 2, 4 … and ``most`` itself: threads up to the cores, waiting requests that may be answered together."""
    return [1 << power for power in range((most - 1).bit_length())] + [most]


def _threads_of(name: str, opener: Threaded, counts: list[int], found: Measured, settings: BenchmarkConfig) -> None:
    series = {count: Series() for count in counts}
    generator = np.random.default_rng(settings.seed)
    with ExitStack() as stack:
        try:
            workers = {}
            for count in counts:
                workers[count] = stack.enter_context(Worker(name, opener(name, count), count))
                workers[count].ready()
            for number in range(-1, ROUNDS):
                for i in generator.permutation(len(counts)):
                    block = workers[counts[i]].block("compute", settings.block_ms)
                    if number < 0:
                        series[counts[i]].warmup = len(block.host) + 1
                    else:
                        series[counts[i]].add(number, block)
        except WorkerFailed as error:
            found.times[name].notes.append(f"thread sweep: {error.reason}")
    for count, one in series.items():
        if one.blocks:
            extra = Extra("single_stream", settings.batch, count, one, "threads")
            found.times[name].extras.append(extra)
