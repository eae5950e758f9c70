"""What both readable forms of a report show, as text that is not escaped yet."""

from __future__ import annotations

from typing import Any

from deploykit.base.targets import REFERENCE
from deploykit.reporting import format as t
from deploykit.reporting.pick import primary, primary_measurement


def headline(report: dict[str, Any]) -> str:
    """The report in one sentence: what to deploy and what it costs."""
    variants, chosen = report["variants"], report.get("pick")
    failed = sum(one["status"] == "failed" for one in variants)
    if failed == len(variants):
        return "Every variant failed." if failed > 1 else f"{variants[0]['name']} failed."
    timed = primary(report) is not None
    if chosen is None:
        return "No variant can be recommended." if timed else _accuracy_headline(report)
    best = next(one for one in variants if one["name"] == chosen["name"])
    if best["name"] == report.get("baseline"):
        return f"Deploy {best['name']}, the baseline: nothing clearly faster stays within the accuracy budget."
    name, base, speed = best["name"], report.get("baseline"), best.get("speedup")
    faster = f" is {t.ratio(speed['estimate'])} the speed of {base}" if speed else " is the fastest verified variant"
    return f"{name}{faster} {_cost(best.get('accuracy'))}."


def _cost(accuracy: dict[str, Any] | None) -> str:
    drop = (accuracy or {}).get("drop_pt")
    if drop is None:
        return "at an accuracy that was not compared"
    if abs(drop) < 0.005:
        return "at no measured loss of top-1"
    return f"and {'costs' if drop > 0 else 'gains'} {abs(drop):.2f} pt of top-1"


def _accuracy_headline(report: dict[str, Any]) -> str:
    known = [one for one in report["variants"] if one.get("accuracy")]
    if not known:
        return "Nothing was measured."
    if len(known) == 1:
        return f"{known[0]['name']} answers {t.percent(known[0]['accuracy']['top1'])} of the images right."
    best = max(known, key=lambda one: one["accuracy"]["top1"])
    return f"{best['name']} is the most accurate of {len(known)} variants: top-1 {t.percent(best['accuracy']['top1'])}."


def headline_detail(report: dict[str, Any]) -> str:
    """The intervals behind the headline, or an empty text."""
    chosen = report.get("pick")
    if chosen is None:
        return ""
    best = next(one for one in report["variants"] if one["name"] == chosen["name"])
    level = f"{100 * report['ci_level']:g} % intervals"
    parts = []
    if t.ratio_interval(best.get("speedup")) and best["name"] != report.get("baseline"):
        parts.append(f"speed-up {t.ratio_interval(best['speedup'])}")
    if t.drop_interval(best.get("accuracy")) and best["name"] != report.get("baseline"):
        parts.append(f"drop {t.drop_interval(best['accuracy'])}")
    if not parts:
        return ""
    budget = (report.get("budget") or {}).get("max_drop_pt")
    held = f"; the budget is {budget:g} pt" if budget is not None else ""
    return f"{level}: {', '.join(parts)}{held}."


def title(report: dict[str, Any]) -> str:
    """The page's title."""
    data = report.get("data")
    what = report.get("recipe") or f"{len(report['variants'])} variant{'s' if len(report['variants']) > 1 else ''}"
    return f"{what} on {data['name']}" if data else str(what)


def rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    """One dictionary of texts per variant, in the report's order."""
    return [_row(report, variant) for variant in report["variants"]]


def _row(report: dict[str, Any], variant: dict[str, Any]) -> dict[str, Any]:
    name = variant["name"]
    latency = primary_measurement(report, variant) or {}
    accuracy = variant.get("accuracy") or {}
    speedup, parity, artifact = variant.get("speedup"), variant.get("parity"), variant.get("artifact")
    low, high = latency.get("p50_ms_low"), latency.get("p50_ms_high")
    is_base = name == report.get("baseline")
    throughput = latency.get("throughput_per_s")
    return {
        "name": name,
        "target": variant["target"],
        "precision": variant.get("precision") or t.NONE,
        "status": variant["status"],
        "is_pick": bool(report.get("pick")) and report["pick"]["name"] == name,
        "is_baseline": is_base,
        "on_front": name in report.get("pareto", []),
        "p50": t.milliseconds(latency.get("p50_ms")),
        "p50_interval": "" if low is None or high is None else f"{t.number(low)} … {t.number(high)}",
        "p90": t.milliseconds(latency.get("p90_ms")),
        "p99": t.milliseconds(latency.get("p99_ms")),
        "throughput": t.NONE if throughput is None else f"{t.number(throughput)} /s",
        "speedup": "1 (baseline)" if is_base and latency else t.ratio((speedup or {}).get("estimate")),
        "speedup_interval": "" if is_base else t.ratio_interval(speedup),
        "top1": t.percent(accuracy.get("top1")),
        "top1_interval": t.percent_interval(accuracy.get("top1_low"), accuracy.get("top1_high"), 1),
        "top5": t.percent(accuracy.get("top5")),
        "macro_f1": t.percent(accuracy.get("macro_f1")),
        "ece": t.percent(accuracy.get("ece")),
        "drop": "baseline" if is_base and accuracy else t.points(accuracy.get("drop_pt")),
        "drop_interval": "" if is_base else t.drop_interval(accuracy),
        "agreement": t.NONE if is_base else t.percent(accuracy.get("agreement")),
        "negative_flips": t.NONE if is_base else t.percent(accuracy.get("negative_flips")),
        "mcnemar_p": t.NONE if is_base or accuracy.get("mcnemar_p") is None else t.number(accuracy["mcnemar_p"], 2),
        "size": t.size((artifact or {}).get("bytes")),
        "parity": "reference" if parity is None and variant["target"] == REFERENCE else t.decibels(parity),
        "parity_ok": None if parity is None else parity["ok"],
        "params": t.count(variant.get("params")),
        "macs": t.count(variant.get("macs")),
        "cold_start": t.milliseconds(variant.get("cold_start_ms")),
        "memory": t.size(variant.get("peak_memory_bytes")),
        "reason": variant.get("reason") or "",
    }


def measurement_rows(report: dict[str, Any]) -> list[dict[str, str]]:
    """One dictionary of texts per measurement: what was timed, and how much of it."""
    return [
        {
            "name": variant["name"],
            "timed": t.timed(one) + _kept(one),
            "n": f"{one['n']:,}",
            "blocks": t.NONE if one.get("blocks") is None else f"{one['blocks']:,}",
            "warmup": t.NONE if one.get("warmup") is None else f"{one['warmup']:,}",
            "p50": t.milliseconds(one["p50_ms"]),
            "p90": t.milliseconds(one.get("p90_ms")),
            "p99": t.milliseconds(one.get("p99_ms")),
            "p99_bound": t.milliseconds(one.get("p99_bound_ms")),
            "mean": t.milliseconds(one.get("mean_ms")),
            "throughput": t.NONE if one.get("throughput_per_s") is None else f"{t.number(one['throughput_per_s'])} /s",
            "energy": t.NONE if one.get("energy_mj") is None else f"{t.number(one['energy_mj'])} mJ",
        }
        for variant in report["variants"]
        for one in variant["measurements"]
        if one["sweep"] is None
    ]


def _kept(measurement: dict[str, Any]) -> str:
    bound = measurement.get("latency_bound_ms")
    return "" if bound is None else f", p99 within {t.milliseconds(bound)}"


def sweep_rows(report: dict[str, Any], sweep: str) -> list[dict[str, str]]:
    """One dictionary of texts per measurement of the sweep over ``batch`` or ``threads``."""
    return [
        {
            "name": variant["name"],
            "batch": str(one["batch"]),
            "threads": str(one["threads"] or t.NONE),
            "p50": t.milliseconds(one["p50_ms"]),
            "p99": t.milliseconds(one.get("p99_ms")),
            "throughput": t.NONE if one.get("throughput_per_s") is None else f"{t.number(one['throughput_per_s'])} /s",
        }
        for variant in report["variants"]
        for one in variant["measurements"]
        if one["sweep"] == sweep
    ]


def how_it_was_measured(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Label and text of what holds for the whole report."""
    data, floor = report.get("data"), report.get("noise_floor_ratio")
    budget = (report.get("budget") or {}).get("max_drop_pt")
    facts = [
        ("Timed", t.timed(primary(report))),
        ("Noise floor (A/A)", t.NONE if floor is None else f"±{100 * floor:.2f} % of the time"),
        ("Timing ended", report.get("stop_reason") or t.NONE),
        ("Intervals", f"{100 * report['ci_level']:g} %, seed {report['seed']}"),
        ("Accuracy on", f"{data['n']:,} images, {data['name']} ({data['split']})" if data else "no data"),
        ("Data sha256", data["sha256"][:16] if data else t.NONE),
        ("Baseline", report.get("baseline") or t.NONE),
        ("Accuracy budget", t.NONE if budget is None else f"at most {budget:g} pt of top-1"),
    ]
    return [(label, value) for label, value in facts if value != t.NONE]


def against_rows(report: dict[str, Any]) -> list[dict[str, str]]:
    """One dictionary of texts per variant that has a counterpart on the other side, and what follows from it."""
    files = {one["name"]: one["artifact"] or {} for one in report["variants"]}
    found = []
    for variant in report["variants"]:
        other = variant["against"]
        if other is None:
            continue
        ours, theirs = files[variant["name"]], files[other["name"]]
        same = ours.get("sha256") is not None and ours.get("sha256") == theirs.get("sha256")
        verdict = _against_verdict(other, report.get("noise_floor_ratio") or 0.0)
        found.append(
            {
                "name": variant["name"],
                "speedup": t.ratio((other["speedup"] or {}).get("estimate")),
                "speedup_interval": t.ratio_interval(other["speedup"]),
                "drop": t.points(other["drop_pt"]),
                "drop_interval": t.drop_interval(other),
                "agreement": t.percent(other["agreement"]),
                "negative_flips": t.percent(other["negative_flips"]),
                "size": f"{t.size(theirs.get('bytes'))} → {t.size(ours.get('bytes'))}",
                "verdict": "the same file: any difference is noise" if same else verdict,
            }
        )
    return found


def _against_verdict(other: dict[str, Any], floor: float) -> str:
    """In words: faster or slower where the interval and the noise floor leave no doubt, and the same of accuracy."""
    speed = other["speedup"]
    if speed is None or speed["low"] is None or speed["high"] is None:
        found = ["speed not known"]
    elif speed["low"] > 1 + floor:
        found = ["faster"]
    elif speed["high"] < 1 / (1 + floor):
        found = ["slower"]
    else:
        found = ["no difference in speed beyond doubt"]
    low, high = other["drop_pt_low"], other["drop_pt_high"]
    if low is not None and high is not None:
        found.append("less accurate" if low > 0 else "more accurate" if high < 0 else "accuracy not told apart")
    return ", ".join(found)


def against_text(report: dict[str, Any]) -> str:
    """The comparison with the other side as lines for a terminal; empty where there is none."""
    lines = [
        f"  {row['name']}: {row['verdict']}; {row['speedup']} its speed"
        + (f" ({row['speedup_interval']})" if row["speedup_interval"] else "")
        + f", drop {row['drop']}"
        + (f" ({row['drop_interval']})" if row["drop_interval"] else "")
        for row in against_rows(report)
    ]
    return "\n".join([f"against {report['against']}, variant by variant:", *lines]) if lines else ""


def condition_rows(report: dict[str, Any]) -> list[tuple[str, str]]:
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
    for key, value in (report.get("conditions") or {}).items():
        shown = _flat(value) or "nothing"
        if isinstance(value, float) and not isinstance(value, bool):
            shown = t.percent(value, 1)
        elif key.endswith("_mhz") and isinstance(value, list) and len(value) == 2:
            shown = f"{value[0]} … {value[1]} MHz"
        found.append((labels.get(key, key.replace("_", " ")), shown))
    return found


def environment_rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Label and text of the machine and the libraries; unknown keys are shown as they are."""
    found = []
    for key, value in (report.get("environment") or {}).items():
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


def accuracy_table(report: dict[str, Any]) -> str:
    """The accuracies as a table for a terminal, one line per variant, failures with their reason below."""
    head = ["variant", "target", "top-1", "interval", "top-5", "macro F1", "ECE", "drop", "interval", "agreement"]
    head += ["neg. flips", "McNemar p"]
    keys = ("name", "target", "top1", "top1_interval", "top5", "macro_f1", "ece", "drop", "drop_interval", "agreement")
    found = rows(report)
    metrics = sorted({name for one in report["variants"] if one["accuracy"] for name in one["accuracy"]["metrics"]})
    cells = [[*head, *metrics]]
    for row, variant in zip(found, report["variants"], strict=True):
        line = [row[key] for key in keys] + [row["negative_flips"], row["mcnemar_p"]]
        own = (variant["accuracy"] or {}).get("metrics", {})
        values = [own.get(name) for name in metrics]
        cells.append(line + [t.NONE if value is None else t.number(value, 4) for value in values])
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    data = report["data"]
    lines.insert(
        0, f"{data['n']:,} images of {data['name']} ({data['split']}), {100 * report['ci_level']:g} % intervals"
    )
    lines += [f"{row['name']} {row['status']}: {row['reason']}" for row in found if row["status"] != "ok"]
    return "\n".join(lines + [f"warning: {warning}" for warning in report["warnings"]])
