"""The ``measurements`` of a report's variant, from the raw samples of its worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.base.artifact import safe_name
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.latency.results import LEAST_ROUNDS, Extra, Series, Times
from deploykit.stats.early_stopping import percentile_estimate
from deploykit.stats.percentiles import percentile, percentile_interval

SCENARIO = "single_stream"


def measurements_of(name: str, times: Times, config: BenchmarkConfig, samples_to: Path | None) -> list[dict[str, Any]]:
    """All measurements of one variant: the primary call first, by host and device clock, then scenarios and sweeps.

    Args:
        name: of the variant.
        times: of its worker.
        config: of the benchmark.
        samples_to: folder whose ``samples/`` gets the raw samples; None: none are written.
    """
    found = []
    for timed, series in sorted(times.series.items()):
        if not series.blocks:
            continue
        of = {"scenario": SCENARIO, "batch": config.batch, "threads": config.threads, "timed": timed}
        found.append(_measurement({**of, "clock": "host"}, series, f"{safe_name(name)}.{timed}", config, samples_to))
        if series.device:
            on_device = Series(series.device, warmup=series.warmup)
            file = f"{safe_name(name)}.{timed}.device"
            found.append(_measurement({**of, "clock": "device"}, on_device, file, config, samples_to))
    found += [_extra(name, extra, config, samples_to) for extra in times.extras]
    return found


def _extra(name: str, extra: Extra, config: BenchmarkConfig, samples_to: Path | None) -> dict[str, Any]:
    of = {"scenario": extra.scenario, "batch": extra.batch, "threads": extra.threads}
    file = f"{safe_name(name)}.{extra.scenario}.batch{extra.batch}.threads{extra.threads}"
    file += f".{extra.sweep}-sweep" if extra.sweep else ""
    made = _measurement({**of, "timed": "compute", "clock": "host"}, extra.series, file, config, samples_to)
    made["sweep"] = extra.sweep
    if extra.rate_per_s is not None:
        made |= {"throughput_per_s": extra.rate_per_s, "latency_bound_ms": extra.bound_ms, "blocks": None}
        made |= {"warmup": None, "energy_mj": None}
    return made


def _measurement(
    of: Mapping[str, Any], series: Series, file_name: str, config: BenchmarkConfig, samples_to: Path | None
) -> dict[str, Any]:
    """One entry: percentiles come from the pooled raw samples, outliers included."""
    blocks = series.blocks
    parts = [blocks[number] for number in sorted(blocks)]
    samples = np.concatenate(parts)
    p50 = percentile(samples, 0.5)
    low = high = None
    if len(parts) >= LEAST_ROUNDS:
        low, high = percentile_interval(parts, 0.5, config.ci_level, seed=config.seed)
        low, high = min(low, p50), max(high, p50)
    file = None
    if samples_to is not None:
        file = f"samples/{file_name}.npz"
        rounds = np.repeat(sorted(blocks), [len(part) for part in parts])
        np.savez_compressed(samples_to / file, samples_ms=samples, round=rounds.astype(np.int32))
    mean = float(samples.mean())
    return {
        **of,
        "n": len(samples),
        "warmup": series.warmup,
        "blocks": len(parts),
        "p50_ms": p50,
        "p50_ms_low": low,
        "p50_ms_high": high,
        "p90_ms": percentile(samples, 0.9),
        "p99_ms": percentile(samples, 0.99),
        "p90_bound_ms": percentile_estimate(samples, 0.9).value,
        "p99_bound_ms": percentile_estimate(samples, 0.99).value,
        "mean_ms": mean,
        "throughput_per_s": 1e3 * of["batch"] / mean,
        "energy_mj": float(np.mean(series.energy_mj)) / of["batch"] if series.energy_mj else None,
        "samples_file": file,
    }
