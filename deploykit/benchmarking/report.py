"""The report of a benchmark: what was judged and what was timed, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deploykit.base.artifact import artifact_of, read_manifest, safe_name
from deploykit.base.environment import describe
from deploykit.base.targets import target_of
from deploykit.benchmarking.variant import Judged
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.evaluation.agreement import compare
from deploykit.latency.results import LEAST_ROUNDS, Extra, Measured, Series, Times, ratio
from deploykit.reporting.attachments.files import gather
from deploykit.reporting.pick import settle
from deploykit.reporting.read import plain, validate
from deploykit.reporting.schema import (
    OTHER_SIDE,
    SCHEMA,
    Against,
    ArtifactFile,
    Data,
    Measurement,
    Of,
    Report,
    Speedup,
    Step,
    Variant,
)
from deploykit.stats.percentiles import percentile, percentile_estimate, percentile_interval

if TYPE_CHECKING:
    from deploykit.data import Split

SCENARIO = "single_stream"


@dataclass(frozen=True)
class Made:
    """What a recipe knows of its variants, beyond their files.

    Attributes:
        recipe: its name.
        root: of the run folder, which artifact paths are relative to.
        steps: of all its variants, in its order, with the commands that do them again.
        missing: those that have no artifact, as the report shows them.
    """

    recipe: str
    root: Path
    steps: Mapping[str, Sequence[Step]]
    missing: Mapping[str, Variant]


def measurements_of(name: str, times: Times, config: BenchmarkConfig, samples_to: Path | None) -> list[Measurement]:
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
        file = f"{safe_name(name)}.{timed}"
        found.append(_measurement(_of(config, timed), series, file, config, samples_to))
        if series.device:
            on_device = Series(series.device, warmup=series.warmup)
            found.append(_measurement(_of(config, timed, "device"), on_device, f"{file}.device", config, samples_to))
    return found + [_extra(name, extra, config, samples_to) for extra in times.extras]


def _of(config: BenchmarkConfig, timed: str = "compute", clock: str = "host") -> Of:
    """One of the primary measurements."""
    of = {"scenario": SCENARIO, "batch": config.batch, "threads": config.threads}
    return Of.model_validate({**of, "timed": timed, "clock": clock})


def _extra(name: str, extra: Extra, config: BenchmarkConfig, samples_to: Path | None) -> Measurement:
    of = Of(scenario=extra.scenario, batch=extra.batch, threads=extra.threads, timed="compute", clock="host")
    file = f"{safe_name(name)}.{extra.scenario}.batch{extra.batch}.threads{extra.threads}"
    file += f".{extra.sweep}-sweep" if extra.sweep else ""
    made = _measurement(of, extra.series, file, config, samples_to)
    made.sweep = extra.sweep
    if extra.rate_per_s is not None:
        made.throughput_per_s, made.latency_bound_ms = extra.rate_per_s, extra.bound_ms
        made.blocks = made.warmup = made.energy_mj = None
    return made


def _measurement(
    of: Of, series: Series, file_name: str, config: BenchmarkConfig, samples_to: Path | None
) -> Measurement:
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
    return Measurement(
        **dict(of),
        n=len(samples),
        warmup=series.warmup,
        blocks=len(parts),
        p50_ms=p50,
        p50_ms_low=low,
        p50_ms_high=high,
        p90_ms=percentile(samples, 0.9),
        p99_ms=percentile(samples, 0.99),
        p90_bound_ms=percentile_estimate(samples, 0.9).value,
        p99_bound_ms=percentile_estimate(samples, 0.99).value,
        mean_ms=mean,
        throughput_per_s=1e3 * of.batch / mean,
        energy_mj=float(np.mean(series.energy_mj)) / of.batch if series.energy_mj else None,
        samples_file=file,
    )


def speedup_over(base: str, name: str, measured: Measured, config: BenchmarkConfig) -> Speedup | None:
    """The paired speed-up of a variant over another, with what it is of; None where one of them was not timed."""
    speed = ratio(measured, base, name, "compute", config.ci_level, config.seed)
    if speed is None or any(measured.times[one].status != "ok" for one in (base, name)):
        return None
    return Speedup(estimate=speed.estimate, low=speed.low, high=speed.high, of=_of(config))


def _against(
    ours: Judged, base: Judged | None, measured: Measured, labels: np.ndarray | None, config: BenchmarkConfig
) -> Against | None:
    """A variant beside its ``NAME@base``: both were measured in the same rounds and images."""
    if base is None:
        return None
    found = Against(name=base.spec.name)
    found.speedup = speedup_over(base.spec.name, ours.spec.name, measured, config)
    if labels is not None and ours.predicted is not None and base.predicted is not None:
        found = found.model_copy(
            update={**compare(ours.predicted, base.predicted, labels, config.ci_level, config.seed)}
        )
    return found


def build_report(
    judged: Sequence[Judged],
    measured: Measured,
    baseline: str,
    against: str | None,
    split: Split | None,
    config: BenchmarkConfig,
    folder: Path | None,
    files_to: Path | None,
    made: Made | None = None,
) -> Report:
    """The checked ``deploykit.report/2``.

    Args:
        judged: all variants in order.
        measured: of those that could be timed.
        baseline: name.
        against: what the ``NAME@base`` variants are from, or None.
        split: that accuracy was measured on; None: there are no data, and the outputs mean nothing but numbers.
        config: of the benchmark.
        folder: what artifact paths are relative to; None: only names.
        files_to: folder whose ``samples/`` and ``attachments/`` are filled; None: nothing is written.
        made: what the recipe knows, where it is one that measures.
    """
    seen_from = folder if made is None else made.root
    variants = [_variant(one, measured, baseline, config, seen_from, files_to) for one in judged]
    if against is not None:
        known = {one.spec.name: one for one in judged}
        labels = None if split is None or not split.labelled else split.labels[split.chosen(config.images)]
        for variant, one in zip(variants, judged, strict=True):
            variant.against = _against(one, known.get(variant.name + OTHER_SIDE), measured, labels, config)
    report = Report(
        schema=SCHEMA,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=plain(describe()),
        task="none" if split is None or all(one.task == "none" for one in judged) else "classify",
        data=_data(split, config),
        ci_level=config.ci_level,
        seed=config.seed,
        noise_floor_ratio=measured.noise_floor_ratio,
        stop_reason=measured.stop_reason,
        conditions=measured.conditions,
        warnings=[*measured.warnings, *_without_gain(variants, measured.noise_floor_ratio or 0.0)],
        baseline=baseline,
        against=against,
        variants=variants,
    )
    settled = settle(report, config.max_drop_pt)
    return validate((settled if made is None else _completed(settled, made)).plain())


def _data(split: Split | None, config: BenchmarkConfig) -> Data | None:
    if split is None or config.data is None:
        return None
    n = len(split) if config.images is None else min(config.images, len(split))
    return Data(name=Path(config.data).name, split=config.split, n=n, sha256=split.sha256)


def _completed(report: Report, made: Made) -> Report:
    """With the recipe's name, each variant's steps, and the variants that were never made, in the recipe's order."""
    found = {one.name: one for one in report.variants} | dict(made.missing)
    variants = [found[name].model_copy(update={"steps": list(steps)}) for name, steps in made.steps.items()]
    return report.model_copy(update={"recipe": made.recipe, "variants": variants})


def _variant(
    one: Judged,
    measured: Measured,
    baseline: str,
    config: BenchmarkConfig,
    folder: Path | None,
    files_to: Path | None,
) -> Variant:
    name = one.spec.name
    times = measured.times.get(name, Times())
    if times.status != "ok":
        one.fail(times.status, f"while timed: {times.reason}")
    return Variant(
        name=name,
        target=one.spec.target or "",
        precision=one.precision,
        steps=[Step(**step) for step in one.chain.steps],
        status=one.status,
        reason=one.reason,
        accepted=one.accepted,
        artifact=ArtifactFile(**artifact_of(one.spec.path, None if name.endswith(OTHER_SIDE) else folder)),
        params=one.params,
        macs=one.macs,
        cold_start_ms=times.cold_start_ms,
        peak_memory_bytes=times.peak_memory_bytes,
        device_memory_bytes=times.device_memory_bytes,
        builds=times.builds if times.series else None,
        measurements=measurements_of(name, times, config, files_to) if times.status == "ok" else [],
        speedup=None if name == baseline else speedup_over(baseline, name, measured, config),
        quality=one.quality,
        judged_among=one.judged_among,
        accuracy=one.accuracy,
        parity=one.parity,
        verdict=one.verdict,
        audit=one.audit,
        attachments=gather(one.chain.paths, files_to) if files_to is not None else [],
        notes=[*one.notes, *_raced(one), *times.notes],
    )


def _raced(one: Judged) -> list[str]:
    """That an engine is the fastest of several builds: another build of it may be slower."""
    manifest = read_manifest(one.spec.path)
    times = {**manifest.facts, **manifest.measured}.get("builds_ms") if manifest else None  # facts: of older files
    return [f"its engine is the fastest of {len(times)} builds"] if isinstance(times, list) and len(times) > 1 else []


def _without_gain(variants: Sequence[Variant], floor: float) -> list[str]:
    """Engines that are not faster than the baseline here, which is no failure: slower, or as two copies of it may be."""
    known = [(one, one.speedup) for one in variants if one.speedup and not target_of(one.target).runs_models]
    slower = [one.name for one, speed in known if speed.estimate < 1 - floor]
    alike = [one.name for one, speed in known if abs(speed.estimate - 1) <= floor]
    told = [f"not faster than the baseline here, but slower: {', '.join(slower)}"] if slower else []
    within = f"no faster or slower than the baseline within the noise floor of {floor:.1%}: {', '.join(alike)}"
    return [*told, *([within] if alike and floor else [])]
