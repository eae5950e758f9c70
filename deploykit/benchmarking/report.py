"""The report of a benchmark: what was judged and what was timed, put together.

The ``measurements`` of a report's variant, from the raw samples of its worker.

A report's speed-ups, and each candidate beside the variant of the same name on the other side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.base.artifact import artifact_of, read_manifest, safe_name
from deploykit.base.environment import describe
from deploykit.benchmarking.against import SUFFIX
from deploykit.benchmarking.variant import Judged
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.evaluation.agreement import compare
from deploykit.latency.results import LEAST_ROUNDS, Extra, Measured, Series, Times, ratio
from deploykit.reporting.pick import settle
from deploykit.reporting.read import plain, validate
from deploykit.reporting.schema import SCHEMA
from deploykit.stats.percentiles import percentile, percentile_estimate, percentile_interval

if TYPE_CHECKING:
    import numpy as np

    from deploykit.data import Split

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


def speedup_over(base: str, name: str, measured: Measured, config: BenchmarkConfig) -> dict[str, Any] | None:
    """The paired speed-up of a variant over another, with what it is of; None where one of them was not timed."""
    speed = ratio(measured, base, name, "compute", config.ci_level, config.seed)
    if speed is None or measured.times[base].status != "ok":
        return None
    of = {"scenario": SCENARIO, "batch": config.batch, "threads": config.threads, "timed": "compute", "clock": "host"}
    return {"estimate": speed.estimate, "low": speed.low, "high": speed.high, "of": of}


def add_counterparts(
    variants: Sequence[dict[str, Any]],
    judged: Sequence[Judged],
    measured: Measured,
    labels: np.ndarray,
    config: BenchmarkConfig,
) -> None:
    """Give each variant that has a ``NAME@base`` its ``against``: both were measured in the same rounds and images."""
    known = {one.spec.name: one for one in judged}
    for variant in variants:
        ours, base = known[variant["name"]], known.get(variant["name"] + SUFFIX)
        if base is None:
            continue
        found: dict[str, Any] = {"name": base.spec.name}
        if ours.ok and base.ok:
            found["speedup"] = speedup_over(base.spec.name, ours.spec.name, measured, config)
        if ours.predicted is not None and base.predicted is not None:
            found |= compare(ours.predicted, base.predicted, labels, config.ci_level, config.seed)
        variant["against"] = found


def build_report(
    judged: Sequence[Judged],
    measured: Measured,
    baseline: str,
    against: str | None,
    split: Split,
    config: BenchmarkConfig,
    folder: Path | None,
    samples_to: Path | None,
) -> dict[str, Any]:
    """The checked ``deploykit.report/1``.

    Args:
        judged: all variants in order.
        measured: of those that could be timed.
        baseline: name.
        against: what the ``NAME@base`` variants are from, or None.
        split: that accuracy was measured on.
        config: of the benchmark.
        folder: what artifact paths are relative to; None: only names.
        samples_to: folder whose ``samples/`` gets the raw samples; None: none are written.
    """
    variants = [_variant(one, measured, baseline, config, folder, samples_to) for one in judged]
    if against is not None:
        add_counterparts(variants, judged, measured, split.labels[split.chosen(config.limit)], config)
    n = len(split) if config.limit is None else min(config.limit, len(split))
    report = {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": describe(),
        "data": {"name": Path(config.data).name, "split": config.split, "n": n, "sha256": split.sha256},
        "ci_level": config.ci_level,
        "seed": config.seed,
        "noise_floor_ratio": measured.noise_floor_ratio,
        "stop_reason": measured.stop_reason,
        "conditions": measured.conditions,
        "warnings": [*measured.warnings, *_within_noise(variants, measured.noise_floor_ratio)],
        "baseline": baseline,
        "against": against,
        "variants": variants,
    }
    return validate(plain(settle(validate(plain(report)), config.max_drop_pt)))


def _variant(
    one: Judged,
    measured: Measured,
    baseline: str,
    config: BenchmarkConfig,
    folder: Path | None,
    samples_to: Path | None,
) -> dict[str, Any]:
    name = one.spec.name
    times = measured.times.get(name, Times())
    if times.status != "ok":
        one.fail(times.status, f"while timed: {times.reason}")
    fields = {
        **one.fields,
        "steps": list(one.chain.steps),
        "artifact": artifact_of(one.spec.path, None if name.endswith(SUFFIX) else folder),
        "cold_start_ms": times.cold_start_ms,
        "peak_memory_bytes": times.peak_memory_bytes,
        "device_memory_bytes": times.device_memory_bytes,
        "builds": times.builds if times.series else None,
        "notes": [*one.fields.get("notes", ()), *_raced(one), *times.notes],
    }
    if not one.ok:
        return fields
    fields["measurements"] = measurements_of(name, times, config, samples_to)
    if name != baseline:
        fields["speedup"] = speedup_over(baseline, name, measured, config)
    return fields


def _raced(one: Judged) -> list[str]:
    """That an engine is the fastest of several builds: another build of it may be slower."""
    manifest = read_manifest(one.spec.path)
    times = manifest.facts.get("builds_ms") if manifest else None
    return [f"its engine is the fastest of {len(times)} builds"] if isinstance(times, list) and len(times) > 1 else []


def _within_noise(variants: Sequence[dict[str, Any]], floor: float | None) -> list[str]:
    """Speed-ups that two copies of the baseline might show as well."""
    if floor is None:
        return []
    names = [one["name"] for one in variants if one.get("speedup") and abs(one["speedup"]["estimate"] - 1) <= floor]
    return (
        [f"no faster or slower than the baseline within the noise floor of {floor:.1%}: {', '.join(names)}"]
        if names
        else []
    )


def speed_table(report: dict[str, Any]) -> str:
    """The report as a table for a terminal, the sentence first, failures with their reason below."""
    from deploykit.reporting import rows as view

    head = ["variant", "target", "p50", "p99", "speed-up", "interval", "top-1", "drop", "parity", "size"]
    keys = ("name", "target", "p50", "p99", "speedup", "speedup_interval", "top1", "drop", "parity", "size")
    rows = view.rows(report)
    cells = [head, *([str(row[key]) for key in keys] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    facts = [f"{label}: {value}" for label, value in view.how_it_was_measured(report)]
    against = [text, ""] if (text := view.against_text(report)) else []
    bad = [f"{row['name']} {row['status']}: {row['reason']}" for row in rows if row["status"] != "ok"]
    return "\n".join(
        [
            view.headline(report),
            "",
            *lines,
            "",
            *against,
            *facts,
            *bad,
            *(f"warning: {one}" for one in report["warnings"]),
        ]
    )
