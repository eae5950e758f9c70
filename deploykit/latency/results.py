"""What a measurement collects, and the ratios computed from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from deploykit.stats.ratio import speed_up, speed_up_interval

LEAST_ROUNDS = 5
Condition = float | int | str | list[int] | list[str]
"""What the machine did while it was measured: the value of one fact, see :class:`deploykit.latency.machine.Watch`."""
Status = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True)
class Block:
    """What one block gave.

    ``host``: float64 [n] ms by the host's clock. ``device``: float64 [n] ms by the device's own clock, or None.
    ``energy_mj``: of one call, or None.
    """

    host: np.ndarray
    device: np.ndarray | None = None
    energy_mj: float | None = None


@dataclass
class Series:
    """Everything that was timed of one call of one variant.

    ``blocks``: round → host times [n] in ms. ``device``: round → device times [n] in ms; empty where the device has no
    clock. ``energy_mj``: of one call, one figure per block; empty without a meter. ``warmup``: calls made before the
    first block.
    """

    blocks: dict[int, np.ndarray] = field(default_factory=dict)
    device: dict[int, np.ndarray] = field(default_factory=dict)
    energy_mj: list[float] = field(default_factory=list)
    warmup: int = 0

    def add(self, number: int, block: Block) -> None:
        """Keep the block of round ``number``."""
        self.blocks[number] = block.host
        if block.device is not None:
            self.device[number] = block.device
        if block.energy_mj is not None:
            self.energy_mj.append(block.energy_mj)


@dataclass
class Extra:
    """A measurement beside the primary ones.

    ``scenario``: ``multi_stream``, ``offline``, ``server``, or ``single_stream`` in a sweep. ``batch``: pictures of a
    call. ``series``: its samples; of ``server`` one block of latencies from the scheduled time. ``sweep``: ``batch`` or
    ``threads`` where it belongs to one.
    """

    scenario: str
    batch: int
    threads: int
    series: Series
    sweep: Literal["batch", "threads"] | None = None
    rate_per_s: float | None = None
    bound_ms: float | None = None


@dataclass
class Times:
    """What was measured of one variant.

    Attributes:
        status: ``ok``, ``failed`` or ``skipped``.
        reason: why not ok.
        cold_start_ms: load and first answer, the median over builds.
        peak_memory_bytes: resident, of its worker.
        device_memory_bytes: of the GPU that loading and the first answer took; None where not known.
        device: ``cpu`` or ``cuda``.
        fixed_batch: the only batch size it takes, or None.
        builds: how many times it was loaded for these figures.
        series: name of the call → its samples.
        extras: scenarios and sweeps.
        notes: what ended a sweep or a search.
    """

    status: Status = "ok"
    reason: str | None = None
    cold_start_ms: float | None = None
    peak_memory_bytes: int | None = None
    device_memory_bytes: int | None = None
    device: str = "cpu"
    fixed_batch: int | None = None
    builds: int = 1
    series: dict[str, Series] = field(default_factory=dict)
    extras: list[Extra] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def of(self, name: str) -> Series:
        """The samples of the call ``name``, empty at first."""
        return self.series.setdefault(name, Series())


@dataclass(frozen=True)
class Ratio:
    """A paired speed-up over another variant; no interval below five common rounds."""

    estimate: float
    low: float | None
    high: float | None


@dataclass
class Measured:
    """The whole measurement.

    ``times``: variant → what was measured. ``stop_reason``: ``interval`` or ``time limit``; None where nothing could be
    timed. ``noise_floor_ratio``: of the two copies of the baseline; None where there is no interval. ``warnings``: what
    disturbed it. ``conditions``: what the machine did meanwhile. ``rounds``: number of rounds.
    """

    times: dict[str, Times]
    stop_reason: str | None = None
    noise_floor_ratio: float | None = None
    warnings: list[str] = field(default_factory=list)
    conditions: dict[str, Condition] = field(default_factory=dict)
    rounds: int = 0


def ratio(found: Measured, baseline: str, name: str, timed: str, level: float = 0.95, seed: int = 0) -> Ratio | None:
    """The paired speed-up of a variant over the baseline from their common rounds; None where there are none."""
    if baseline not in found.times or name not in found.times:
        return None
    series = [found.times[one].series.get(timed) for one in (baseline, name)]
    if series[0] is None or series[1] is None:
        return None
    return paired(series[0].blocks, series[1].blocks, level, seed)


def paired(
    theirs: Mapping[int, np.ndarray], ours: Mapping[int, np.ndarray], level: float = 0.95, seed: int = 0
) -> Ratio | None:
    """How much faster ``ours`` is than ``theirs`` in the rounds that both have."""
    rounds = sorted(ours.keys() & theirs.keys())
    if not rounds:
        return None
    slow, fast = medians(theirs, rounds), medians(ours, rounds)
    estimate = speed_up(slow, fast)
    if len(rounds) < LEAST_ROUNDS:
        return Ratio(estimate, None, None)
    low, high = speed_up_interval(slow, fast, level, seed=seed)
    return Ratio(estimate, min(low, estimate), max(high, estimate))


def medians(blocks: Mapping[int, np.ndarray], rounds: Iterable[int]) -> np.ndarray:
    """The median time of each round's block, in ms."""
    return np.array([float(np.median(blocks[number])) for number in rounds])
