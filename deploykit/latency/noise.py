"""What disturbs a measurement, said instead of hidden."""

from __future__ import annotations

import os

import numpy as np

BUSY = 0.15
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

    Args:
        share: from :func:`busy_share`.
        threads: of each variant.
        available: cores.
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

    Args:
        medians: [blocks] of one variant, in order of time.
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
