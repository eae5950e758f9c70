"""What the machine did while it was measured: clocks, governor, throttling, other load; and what of it disturbs."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.latency.power import gpu, number_in
from deploykit.latency.results import Condition

CPUS = Path("/sys/devices/system/cpu")
EVERY_S = 1.0
BUSY = 0.15
STEAL = 0.02
CLOCK_CHANGE = 0.10


@dataclass
class Watch:
    """Looks at the machine now and then; :meth:`finish` says what disturbed it.

    ``root``: of the kernel's CPU tree.
    """

    root: Path = CPUS
    _mhz: list[float] = field(default_factory=list)
    _gpu_mhz: list[int] = field(default_factory=list)
    _gpu_reasons: set[str] = field(default_factory=set)
    _gpu_busy: float | None = None
    _last: float = 0.0

    def __post_init__(self) -> None:
        self._times, self._began, self._throttles = _times(), time.monotonic(), _throttles(self.root)
        card = gpu()
        self._gpu_busy = card.busy_share() if card else None

    def sample(self) -> None:
        """Note the clocks, at most once a second."""
        if time.monotonic() - self._last < EVERY_S:
            return
        self._last = time.monotonic()
        mhz = _mhz(self.root)
        self._mhz += [mhz] if mhz else []
        card = gpu()
        if card is not None:
            clock = card.clock_mhz()
            self._gpu_mhz += [clock] if clock else []
            self._gpu_reasons.update(card.throttled_by())

    def finish(self, own_cpu_s: float) -> tuple[dict[str, Condition], list[str]]:
        """What was seen, and the warnings that follow from it.

        ``own_cpu_s``: processor time of the measurement itself, its workers included.
        """
        facts: dict[str, Condition | None] = {}
        busy, steal = self._shares(own_cpu_s)
        facts["load_of_others"] = None if busy is None else round(busy, 3)
        facts["stolen_share"] = None if steal is None else round(steal, 4)
        facts["governor"] = _governor(self.root)
        if self._mhz:
            facts["cpu_mhz"] = [round(min(self._mhz)), round(max(self._mhz))]
        throttles = _throttles(self.root)
        if throttles is not None and self._throttles is not None:
            facts["thermal_throttles"] = throttles - self._throttles
        if self._gpu_mhz:
            facts["gpu_mhz"] = [min(self._gpu_mhz), max(self._gpu_mhz)]
            facts["gpu_throttled_by"] = sorted(self._gpu_reasons)
        if self._gpu_busy is not None:
            facts["gpu_busy_before"] = self._gpu_busy
        known = {key: value for key, value in facts.items() if value is not None}
        return known, warnings_of(known)

    def _shares(self, own_cpu_s: float) -> tuple[float | None, float | None]:
        now = _times()
        if now is None or self._times is None:
            return None, None
        total, idle, steal = (after - before for after, before in zip(now, self._times, strict=True))
        if total <= 0:
            return None, None
        return max(0.0, (total - idle - steal - own_cpu_s) / total), max(0.0, steal / total)


def warnings_of(facts: Mapping[str, Any]) -> list[str]:
    """The sentences for a report.

    ``facts``: as :meth:`Watch.finish` collects them.
    """
    found = []
    if facts.get("load_of_others", 0) > BUSY:
        found.append(
            f"other processes used {facts['load_of_others']:.0%} of the processor during the measurement: absolute times "
            "are too high, ratios hold"
        )
    if facts.get("stolen_share", 0) > STEAL:
        found.append(f"the hypervisor gave {facts['stolen_share']:.0%} of the processor's time to other machines")
    if facts.get("governor") not in (None, "performance"):
        found.append(f"the processor's governor is {facts['governor']!r}: clocks follow the load")
    for key, what in (("cpu_mhz", "processor"), ("gpu_mhz", "GPU")):
        low, high = facts.get(key, (1, 1))
        if high > low * (1 + CLOCK_CHANGE):
            found.append(f"the {what}'s clock changed while timing: {low} … {high} MHz")
    if facts.get("thermal_throttles", 0) > 0:
        found.append(f"the processor was throttled by heat {facts['thermal_throttles']} times while timing")
    if facts.get("gpu_throttled_by"):
        found.append(f"the GPU was held down while timing: {', '.join(facts['gpu_throttled_by'])}")
    if facts.get("gpu_busy_before", 0) > BUSY:
        found.append(f"others kept the GPU {facts['gpu_busy_before']:.0%} busy before the measurement")
    return found


def _times() -> tuple[float, float, float] | None:
    """Seconds of all cores that this process may use: total, idle, stolen by the hypervisor."""
    import psutil

    cores = psutil.cpu_times(percpu=True)
    if hasattr(os, "sched_getaffinity"):
        cores = [one for number, one in enumerate(cores) if number in os.sched_getaffinity(0)] or cores
    total = sum(sum(one) - getattr(one, "guest", 0) - getattr(one, "guest_nice", 0) for one in cores)
    idle = sum(one.idle + getattr(one, "iowait", 0) for one in cores)
    return total, idle, sum(getattr(one, "steal", 0) for one in cores)


def _mhz(root: Path) -> float | None:
    found = [number_in(path) for path in root.glob("cpu[0-9]*/cpufreq/scaling_cur_freq")]
    known = [one / 1e3 for one in found if one]
    return sum(known) / len(known) if known else None


def _governor(root: Path) -> str | None:
    try:
        return (root / "cpu0/cpufreq/scaling_governor").read_text().strip() or None
    except OSError:
        return None


def _throttles(root: Path) -> int | None:
    found = [number_in(path) for path in root.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]
    known = [one for one in found if one is not None]
    return int(sum(known)) if known else None


DRIFT = 0.10


def busy_share(seconds: float = 0.3) -> float:
    """The share of all cores that is busy while we ourselves only wait, 0…1."""
    import psutil

    return float(psutil.cpu_percent(interval=seconds)) / 100


def quietest_core(seconds: float = 0.2) -> int | None:
    """The core with the least other work just now, of those that this process may use; None where that cannot be told.

    All variants computing on one and the same core meet the same neighbours; on cores of their own, what runs beside
    one of them would pass for its speed.
    """
    import psutil

    if not hasattr(os, "sched_getaffinity"):
        return None
    shares = psutil.cpu_percent(interval=seconds, percpu=True)
    ours = [core for core in sorted(os.sched_getaffinity(0)) if core < len(shares)]
    return min(ours, key=lambda core: shares[core], default=None)


def load_warnings(share: float, threads: int, available: int) -> list[str]:
    """Warnings about what was seen before anything was timed.

    ``share``: from :func:`busy_share`. ``available``: cores.
    """
    found = []
    if share > BUSY:
        found.append(
            f"other processes used {share:.0%} of the processor before the measurement: absolute times are too high, "
            "ratios hold"
        )
    if threads > available:
        found.append(f"{threads} threads on {available} cores: they wait for each other")
    elif threads == available:
        found.append(
            f"all {available} cores are used for {threads} threads: other work on this machine disturbs the times"
        )
    return found


def drift(medians: np.ndarray) -> float:
    """How much slower (above 0) the last quarter of the blocks is than the first, as a ratio.

    ``medians``: [blocks] of one variant, in order of time.
    """
    quarter = max(1, len(medians) // 4)
    return float(np.median(medians[-quarter:]) / np.median(medians[:quarter]) - 1)


def drift_warning(medians: np.ndarray) -> str | None:
    """A warning where the baseline itself changed its speed during the measurement (throttling, load)."""
    if len(medians) < 8 or abs(change := drift(medians)) <= DRIFT:
        return None
    kind = "slower" if change > 0 else "faster"
    return (
        f"the baseline became {abs(change):.0%} {kind} during the measurement (throttling, or load of others): "
        "absolute times are unsteady, ratios hold"
    )


def noise_floor(interval: tuple[float, float] | None) -> float | None:
    """The largest difference that two copies of the same engine may show: how far the A/A interval reaches from 1."""
    return None if interval is None else max(abs(interval[0] - 1), abs(interval[1] - 1))
