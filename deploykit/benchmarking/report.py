"""The report of a benchmark: what was judged and what was timed, put together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploykit.base.artifact import artifact_of, read_manifest
from deploykit.base.environment import describe
from deploykit.benchmarking.against import SUFFIX
from deploykit.benchmarking.counterparts import add_counterparts, speedup_over
from deploykit.benchmarking.measurements import measurements_of
from deploykit.benchmarking.variant import Judged
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.latency.results import Measured, Times
from deploykit.reporting.pick import settle
from deploykit.reporting.read import plain, validate
from deploykit.reporting.schema import SCHEMA

if TYPE_CHECKING:
    from deploykit.data import Split


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
