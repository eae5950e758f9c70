"""Scenarios and the batch sweep, after the primary measurement; a failure in them leaves its figures as they are.

``server`` searches the highest rate of Poisson arrivals whose p99 keeps a bound.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from deploykit.base.progress import Progress
from deploykit.latency.arrivals import Arrivals, poisson
from deploykit.latency.results import Extra, Series
from deploykit.latency.sweep import batch_sweep, doublings
from deploykit.latency.workers import Crew, WorkerFailed
from deploykit.stats.percentiles import least_queries

CONFIDENCE = 0.99
LATE = 8
"""A probe may see so many late answers; the queries it takes follow from LoadGen's early stopping (1,736 for 8)."""
CLOSE_ENOUGH = 1.05
MOST_PROBES = 12


@dataclass(frozen=True)
class Served:
    """What the search found.

    ``rate_per_s``: the highest rate that kept the bound; None where none did. ``latencies_ms``: float64 [n] of the
    requests at that rate. ``note``: why there is no rate, or why it may be higher; None where neither is so.
    """

    rate_per_s: float | None
    latencies_ms: np.ndarray
    note: str | None = None


def highest_rate(
    probe: Callable[[Arrivals], np.ndarray],
    answer_ms: float,
    bound_ms: float,
    sizes: tuple[int, ...],
    limit_s: float,
    seed: int,
) -> Served:
    """Search the highest rate whose p99 is known to keep the bound with 99 % confidence.

    The rate is bisected on a logarithmic scale, down from one answer after the other without a pause, until the best
    that held and the least that failed are within 5 % of each other. A probe that cannot end in time is not begun.

    ``probe``: lets the requests arrive at the variant; fewer latencies than requests mean that it failed.
    ``answer_ms``: what one answer to one picture takes. ``bound_ms``: of p99, from the scheduled time. ``sizes``:
    numbers of pictures that may be answered together. ``limit_s``: of the whole search.
    """
    n = least_queries(LATE, CONFIDENCE)
    best, worst = 0.0, 1e3 / answer_ms * (1.0 if len(sizes) == 1 else sizes[-1])
    kept = np.empty(0)
    end = time.monotonic() + limit_s
    rate = 0.7 * 1e3 / answer_ms
    for number in range(MOST_PROBES):
        if n / rate > end - time.monotonic():
            return Served(best or None, kept, "the search of the highest rate ended at the time limit")
        latencies = probe(Arrivals(poisson(rate, n, seed + number), sizes, bound_ms, LATE))
        if len(latencies) == n and np.count_nonzero(latencies > bound_ms) <= LATE:
            best, kept = rate, latencies
        else:
            worst = rate
        if best and worst / best <= CLOSE_ENOUGH:
            return Served(best, kept)
        rate = float(np.sqrt(best * worst)) if best else worst / 2
        if rate < 1e3 / answer_ms / 100:
            break
    if best:
        return Served(best, kept)
    return Served(
        None, kept, f"no rate keeps p99 within {bound_ms:g} ms: one answer alone takes {answer_ms:.3g} ms at the median"
    )


ROUNDS = 10
SHARE = 0.5
"""Each scenario and each sweep may take this share of the time limit of the primary measurement."""
OFFLINE_BLOCKS = 4
"""An ``offline`` block is so many times longer: there is no next query to wait for."""


def measure_extras(crew: Crew, progress: Progress) -> None:
    """Measure what ``settings.scenarios`` and ``settings.sweeps`` ask for, with the workers that are open."""
    settings = crew.settings
    limit_s = SHARE * settings.max_time_s
    if not crew.names:
        return
    if "multi_stream" in settings.scenarios:
        images = settings.multi_stream_images
        _scenario(crew, "multi_stream", dict.fromkeys(crew.names, images), settings.block_ms, limit_s, progress)
    if "batch" in settings.sweeps:
        batch_sweep(crew, limit_s, progress)
    if "offline" in settings.scenarios:
        best = {name: _best_batch(crew, name) for name in crew.names}
        _scenario(crew, "offline", best, OFFLINE_BLOCKS * settings.block_ms, limit_s, progress)
    if "server" in settings.scenarios:
        _server(crew, limit_s, progress)


def _best_batch(crew: Crew, name: str) -> int:
    """The batch of the highest throughput in the sweep, else the one that is measured anyway."""
    swept = [one for one in crew.found.times[name].extras if one.sweep == "batch"]
    if not swept:
        return crew.settings.batch
    return max(
        swept, key=lambda one: one.batch / float(np.mean(np.concatenate(list(one.series.blocks.values()))))
    ).batch


def _scenario(
    crew: Crew, scenario: str, images: Mapping[str, int], block_ms: float, limit_s: float, progress: Progress
) -> None:
    calls = {name: f"compute/{count}" for name, count in images.items()}
    series = interleaved(crew, calls, scenario, ROUNDS, block_ms, limit_s, progress)
    for name, one in series.items():
        crew.found.times[name].extras.append(Extra(scenario, images[name], crew.settings.threads, one))


def interleaved(
    crew: Crew, calls: Mapping[str, str], what: str, rounds: int, block_ms: float, limit_s: float, progress: Progress
) -> dict[str, Series]:
    """``rounds`` rounds in random order, fewer where the time is over, after one warm-up block of each.

    ``crew``: the workers; one that fails is taken out, with a note. ``calls``: variant → name of its call. ``what``: is
    measured, for notes and progress. ``rounds``: number of rounds. ``block_ms``: length of a block.
    """
    generator = np.random.default_rng(crew.settings.seed)
    series = {name: Series() for name in calls}
    end = time.monotonic() + limit_s
    with progress.task(what, total=rounds, unit="rounds") as task:
        for number in range(-1, rounds):
            order = [name for name in calls if name in crew.workers]
            for name in [order[i] for i in generator.permutation(len(order))]:
                try:
                    block = crew.block(name, calls[name], 0, block_ms)
                except WorkerFailed as error:
                    crew.found.times[name].notes.append(f"{what}: {error.reason}")
                    crew.drop(name)
                    continue
                if number < 0:
                    series[name].warmup = len(block.host) + 1
                else:
                    series[name].add(number, block)
            task.advance(max(0, min(1, number + 1)))
            if time.monotonic() > end:
                break
    return {name: one for name, one in series.items() if one.blocks}


def _server(crew: Crew, limit_s: float, progress: Progress) -> None:
    settings = crew.settings
    with progress.task("server", total=len(crew.names), unit="variants") as task:
        for name in crew.names:
            times, worker = crew.found.times[name], crew.workers[name][0]
            sizes = tuple(doublings(settings.batch)) if times.fixed_batch in (None, 1) else (1,)
            try:
                single = float(np.median(worker.block("compute/1", settings.block_ms).host))
                found = highest_rate(
                    worker.serve, single, settings.server_bound_ms, sizes, limit_s / len(crew.names), settings.seed
                )
            except WorkerFailed as error:
                times.notes.append(f"server: {error.reason}")
                crew.drop(name)
                continue
            if found.note:
                times.notes.append(f"server: {found.note}")
            if found.rate_per_s is not None:
                series = Series({0: found.latencies_ms})
                bound = settings.server_bound_ms
                extra = Extra("server", sizes[-1], settings.threads, series, None, found.rate_per_s, bound)
                times.extras.append(extra)
            task.advance(1)
