"""What both readable forms of a report show, as text that is not escaped yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deploykit.base.targets import REFERENCE
from deploykit.reporting import format as t
from deploykit.reporting.pick import metric_of, primary, primary_measurement
from deploykit.reporting.quality import Accuracy, Quality
from deploykit.reporting.schema import Against, Measurement, Report, Variant


def mark_of(variant: Variant) -> str:
    """What stands beside the name of a variant that is not ``ok``: ``failed``, ``unsure, accepted``; else nothing."""
    return "" if variant.status == "ok" else variant.status + (", accepted" if variant.usable else "")


def verdict_text(variant: Variant) -> str:
    """What the status was decided by: the answers kept, of how many images of which split, and what would settle it."""
    found = variant.verdict
    if found is None:
        return ""
    parts = [] if found.snr_db is None else [f"SNR {found.snr_db:.1f} dB in the worst group of the outputs"]
    for kept, kind in ((found.confident, "confident answers"), (found.agreement, "answers in all")):
        if kept is not None and kept.n:
            interval = t.percent_interval(kept.low, kept.high, 1)
            parts.append(f"{kept.kept:,} of {kept.n:,} {kind} kept" + (f" ({interval})" if interval else ""))
    parts += [f"on images of {found.split}"] if found.split and len(parts) else []
    parts += [f"about {found.more_images:,} more images would settle it"] if found.more_images else []
    return f"{found.status}: {', '.join(parts)}" if parts else found.status


def metric_head(report: Report) -> str:
    """The report's main metric as the head of a column: ``Top-1``."""
    word = metric_of(report)
    return word[0].upper() + word[1:] if word.islower() else word


@dataclass(frozen=True)
class Row:
    """What the tables show of one variant, as text; a dash or nothing where it is not known."""

    name: str
    target: str
    precision: str
    status: str
    mark: str
    reason: str
    is_pick: bool
    is_baseline: bool
    parity_ok: bool | None
    parity: str
    size: str
    params: str
    macs: str
    cold_start: str
    memory: str
    speedup: str
    speedup_interval: str
    judged: str
    p50: str = t.NONE
    p50_interval: str = ""
    p90: str = t.NONE
    p99: str = t.NONE
    throughput: str = t.NONE
    quality: str = t.NONE
    quality_interval: str = ""
    top5: str = t.NONE
    macro_f1: str = t.NONE
    ece: str = t.NONE
    drop: str = t.NONE
    drop_interval: str = ""
    agreement: str = t.NONE
    negative_flips: str = t.NONE
    mcnemar_p: str = t.NONE

    @property
    def marked(self) -> str:
        """The name, with what is wrong with the variant."""
        return f"{self.name} ({self.mark})" if self.mark else self.name


def rows(report: Report) -> list[Row]:
    """One row per variant, in the report's order."""
    return [_row(report, variant) for variant in report.variants]


def _row(report: Report, variant: Variant) -> Row:
    is_base = variant.name == report.baseline
    latency, quality, accuracy = primary_measurement(report, variant), variant.quality, variant.accuracy
    speedup, parity = variant.speedup, variant.parity
    timed = {} if latency is None else _timed(latency)
    judged = ({} if quality is None else _judged(quality)) | ({} if accuracy is None else _scored(accuracy))
    if is_base and quality is not None:
        judged |= {"drop": "baseline", "drop_interval": ""}
    return Row(
        name=variant.name,
        target=variant.target,
        precision=variant.precision or t.NONE,
        status=variant.status,
        mark=mark_of(variant),
        reason=variant.reason or "",
        is_pick=report.pick is not None and report.pick.name == variant.name,
        is_baseline=is_base,
        parity_ok=None if parity is None else parity.ok,
        parity="reference" if parity is None and variant.target == REFERENCE else t.decibels(parity),
        size=t.size(variant.artifact.bytes if variant.artifact else None),
        params=t.count(variant.params),
        macs=t.count(variant.macs),
        cold_start=t.milliseconds(variant.cold_start_ms),
        memory=t.size(variant.peak_memory_bytes),
        speedup="1 (baseline)" if is_base and latency else t.ratio(speedup.estimate if speedup else None),
        speedup_interval="" if is_base else t.ratio_interval(speedup),
        judged=verdict_text(variant),
        **timed,
        **judged,
    )


def _timed(one: Measurement) -> dict[str, str]:
    low, high = one.p50_ms_low, one.p50_ms_high
    return {
        "p50": t.milliseconds(one.p50_ms),
        "p50_interval": "" if low is None or high is None else f"{t.number(low)} … {t.number(high)}",
        "p90": t.milliseconds(one.p90_ms),
        "p99": t.milliseconds(one.p99_ms),
        "throughput": t.rate(one.throughput_per_s),
    }


def _judged(quality: Quality) -> dict[str, str]:
    return {
        "quality": t.percent(quality.value),
        "quality_interval": t.percent_interval(quality.low, quality.high, 1),
        "drop": t.points(quality.drop_pt),
        "drop_interval": t.drop_interval(quality),
    }


def _scored(accuracy: Accuracy) -> dict[str, str]:
    return {
        "top5": t.percent(accuracy.top5),
        "macro_f1": t.percent(accuracy.macro_f1),
        "ece": t.percent(accuracy.ece),
        "agreement": t.percent(accuracy.agreement),
        "negative_flips": t.percent(accuracy.negative_flips),
        "mcnemar_p": t.NONE if accuracy.mcnemar_p is None else t.number(accuracy.mcnemar_p, 2),
    }


def measurement_rows(report: Report) -> list[dict[str, str]]:
    """One dictionary of texts per measurement: what was timed, and how much of it."""
    return [
        {
            "name": variant.name,
            "timed": t.timed(one) + _kept(one),
            "n": f"{one.n:,}",
            "blocks": t.NONE if one.blocks is None else f"{one.blocks:,}",
            "warmup": t.NONE if one.warmup is None else f"{one.warmup:,}",
            "p50": t.milliseconds(one.p50_ms),
            "p90": t.milliseconds(one.p90_ms),
            "p99": t.milliseconds(one.p99_ms),
            "p99_bound": t.milliseconds(one.p99_bound_ms),
            "mean": t.milliseconds(one.mean_ms),
            "throughput": t.rate(one.throughput_per_s),
            "energy": t.NONE if one.energy_mj is None else f"{t.number(one.energy_mj)} mJ",
        }
        for variant in report.variants
        for one in variant.measurements
        if one.sweep is None
    ]


def _kept(measurement: Measurement) -> str:
    bound = measurement.latency_bound_ms
    return "" if bound is None else f", p99 within {t.milliseconds(bound)}"


def sweep_rows(report: Report, sweep: str) -> list[dict[str, str]]:
    """One dictionary of texts per measurement of the sweep over ``batch`` or ``threads``."""
    return [
        {
            "name": variant.name,
            "batch": str(one.batch),
            "threads": str(one.threads or t.NONE),
            "p50": t.milliseconds(one.p50_ms),
            "p99": t.milliseconds(one.p99_ms),
            "throughput": t.rate(one.throughput_per_s),
        }
        for variant in report.variants
        for one in variant.measurements
        if one.sweep == sweep
    ]


def how_it_was_measured(report: Report) -> list[tuple[str, str]]:
    """Label and text of what holds for the whole report."""
    data, floor = report.data, report.noise_floor_ratio
    none = "no data: random input" if report.task == "none" else "no data"
    budget = report.budget.max_drop_pt if report.budget and report.task != "none" else None
    facts = [
        ("Timed", t.timed(primary(report))),
        ("Noise floor (A/A)", t.NONE if floor is None else f"±{100 * floor:.2f} % of the time"),
        ("Timing ended", report.stop_reason or t.NONE),
        ("Intervals", f"{100 * report.ci_level:g} %, seed {report.seed}"),
        ("Accuracy on", f"{data.n:,} images, {data.name} ({data.split})" if data else none),
        ("Data sha256", data.sha256[:16] if data else t.NONE),
        ("Baseline", report.baseline or t.NONE),
        ("Accuracy budget", t.NONE if budget is None else f"at most {budget:g} pt of {metric_of(report)}"),
    ]
    return [(label, value) for label, value in facts if value != t.NONE]


def against_rows(report: Report) -> list[dict[str, str]]:
    """One dictionary of texts per variant that has a counterpart on the other side, and what follows from it."""
    files = {one.name: one.artifact for one in report.variants}
    found = []
    for variant in report.variants:
        other = variant.against
        if other is None:
            continue
        ours, theirs = files[variant.name], files[other.name]
        same = ours is not None and theirs is not None and ours.sha256 == theirs.sha256
        verdict = _against_verdict(other, report.noise_floor_ratio or 0.0)
        found.append(
            {
                "name": variant.name,
                "speedup": t.ratio(other.speedup.estimate if other.speedup else None),
                "speedup_interval": t.ratio_interval(other.speedup),
                "drop": t.points(other.drop_pt),
                "drop_interval": t.drop_interval(other),
                "agreement": t.percent(other.agreement),
                "negative_flips": t.percent(other.negative_flips),
                "size": " → ".join(t.size(one.bytes if one else None) for one in (theirs, ours)),
                "verdict": "the same file: any difference is noise" if same else verdict,
            }
        )
    return found


def _against_verdict(other: Against, floor: float) -> str:
    """In words: faster or slower where the interval and the noise floor leave no doubt, and the same of accuracy."""
    speed = other.speedup
    if speed is None or speed.low is None or speed.high is None:
        found = ["speed not known"]
    elif speed.low > 1 + floor:
        found = ["faster"]
    elif speed.high < 1 / (1 + floor):
        found = ["slower"]
    else:
        found = ["no difference in speed beyond doubt"]
    low, high = other.drop_pt_low, other.drop_pt_high
    if low is not None and high is not None:
        found.append("less accurate" if low > 0 else "more accurate" if high < 0 else "accuracy not told apart")
    return ", ".join(found)


def against_text(report: Report) -> str:
    """The comparison with the other side as lines for a terminal; empty where there is none."""
    lines = [
        f"  {row['name']}: {row['verdict']}; {row['speedup']} its speed"
        + (f" ({row['speedup_interval']})" if row["speedup_interval"] else "")
        + f", drop {row['drop']}"
        + (f" ({row['drop_interval']})" if row["drop_interval"] else "")
        for row in against_rows(report)
    ]
    return "\n".join([f"against {report.against}, variant by variant:", *lines]) if lines else ""


def condition_rows(report: Report) -> list[tuple[str, str]]:
    """Label and text of what the machine did while it was measured."""
    labels = {
        "load_of_others": "Load of others",
        "stolen_share": "Time given to other machines",
        "governor": "Governor",
        "cpu_mhz": "Processor clock",
        "gpu_mhz": "GPU clock",
        "gpu_throttled_by": "GPU held down by",
        "gpu_busy_before": "GPU busy before",
        "thermal_throttles": "Throttled by heat",
    }
    found = []
    for key, value in report.conditions.items():
        shown = _flat(value) or "nothing"
        if isinstance(value, float) and not isinstance(value, bool):
            shown = t.percent(value, 1)
        elif key.endswith("_mhz") and isinstance(value, list) and len(value) == 2:
            shown = f"{value[0]} … {value[1]} MHz"
        found.append((labels.get(key, key.replace("_", " ")), shown))
    return found


def environment_rows(report: Report) -> list[tuple[str, str]]:
    """Label and text of the machine and the libraries; unknown keys are shown as they are."""
    found = []
    for key, value in report.environment.items():
        if key == "cpu" and isinstance(value, dict):
            isa = f" ({', '.join(map(str, value['isa']))})" if value.get("isa") else ""
            found.append(("CPU", f"{value.get('model')}, {value.get('cores')} cores{isa}"))
        elif key == "gpus" and isinstance(value, list):
            found.append(("GPU", "; ".join(_gpu(one) for one in value) or "none"))
        elif key == "memory_bytes" and isinstance(value, int):
            found.append(("Memory", t.size(value)))
        elif key == "libraries" and isinstance(value, dict):
            found.append(("Libraries", ", ".join(f"{name} {version}" for name, version in value.items())))
        else:
            found.append((_label(key), value if isinstance(value, str) else _flat(value)))
    return found


def _label(key: str) -> str:
    return {"os": "System", "python": "Python", "machine": "Architecture"}.get(key, key.replace("_", " "))


def _gpu(one: Any) -> str:
    if not isinstance(one, dict):
        return str(one)
    memory = f", {one['memory_mib']:,} MiB" if isinstance(one.get("memory_mib"), int) else ""
    driver = f", driver {one['driver']}" if one.get("driver") else ""
    return f"{one.get('name')}{memory}{driver}"


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(_flat(one) for one in value)
    return str(value)
