"""Several reports as one comparison: how each variant's ratio to the baseline, accuracy and size went over time and machines.

Milliseconds of two reports are never compared: they were taken on different machines, or on one machine in another mood.
What is compared is the time as a ratio to a variant that was measured beside it in each report.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from deploykit.base.errors import BadInput
from deploykit.reporting import format as t
from deploykit.reporting.pick import primary, primary_measurement

SCHEMA = "deploykit.comparison/1"


def compare(reports: Sequence[dict[str, Any]], labels: Sequence[str]) -> dict[str, Any]:
    """Put reports beside each other, the oldest first.

    Args:
        reports: checked, at least two.
        labels: of each, as the user named it.

    Returns:
        ``reference`` (variant that times are divided by), ``of`` (what was timed), ``runs`` (one per report), ``variants``
        (name and one point per run, None where it was not measured), ``changes`` (the last against the first run that
        has the variant), ``warnings``.

    Raises:
        BadInput: no variant was measured in two of the reports.
    """
    order = sorted(range(len(reports)), key=lambda i: (reports[i]["created"], i))
    ordered, named = [reports[i] for i in order], [labels[i] for i in order]
    reference, of, warnings = _reference(ordered), _of(ordered), list[str]()
    runs = [_run(number, report, label) for number, (report, label) in enumerate(zip(ordered, named, strict=True), 1)]
    names = list(dict.fromkeys(variant["name"] for report in ordered for variant in report["variants"]))
    variants = [
        {
            "name": name,
            "points": [
                _point(report, name, reference, of, warnings, run) for report, run in zip(ordered, runs, strict=True)
            ],
        }
        for name in names
    ]
    if not any(sum(point is not None for point in one["points"]) > 1 for one in variants):
        raise BadInput(
            "the reports have nothing in common",
            got=", ".join(names),
            expected="a variant of the same name in two of them",
        )
    data = {run["data_sha256"] for run in runs if run["data_sha256"]}
    if len(data) > 1:
        warnings.append("accuracy was measured on different images: drops and top-1 of these reports are not compared")
    machines = {run["machine"] for run in runs}
    if len(machines) > 1:
        warnings.append(
            f"{len(machines)} different machines: a ratio may differ between them without any change of the variant"
        )
    changes = [_change(one, runs, reference, same_data=len(data) <= 1) for one in variants]
    return {
        "schema": SCHEMA,
        "reference": reference,
        "of": of,
        "runs": runs,
        "variants": variants,
        "changes": [one for one in changes if one is not None],
        "warnings": list(dict.fromkeys(warnings)),
    }


def _reference(reports: Sequence[dict[str, Any]]) -> str | None:
    """The baseline of most of the reports."""
    named = Counter(report["baseline"] for report in reports if report.get("baseline"))
    return named.most_common(1)[0][0] if named else None


def _of(reports: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """What most of the reports timed."""
    timed = [one for one in map(primary, reports) if one is not None]
    found = Counter(tuple(sorted(one.items(), key=lambda item: item[0])) for one in timed)
    return dict(found.most_common(1)[0][0]) if found else None


def machine_of(report: dict[str, Any]) -> str:
    """The processor, or the GPUs where there are any, in one line."""
    environment = report.get("environment") or {}
    gpus = [one.get("name") if isinstance(one, dict) else one for one in environment.get("gpus") or []]
    cpu = environment.get("cpu")
    if gpus and any(gpus):
        return ", ".join(str(one) for one in gpus)
    if isinstance(cpu, dict):
        return f"{cpu.get('model')}, {cpu.get('cores')} cores"
    return "unknown machine"


def _run(number: int, report: dict[str, Any], label: str) -> dict[str, Any]:
    data = report.get("data")
    libraries = (report.get("environment") or {}).get("libraries")
    return {
        "number": number,
        "label": label,
        "created": report["created"],
        "recipe": report.get("recipe"),
        "machine": machine_of(report),
        "libraries": libraries if isinstance(libraries, dict) else {},
        "noise_floor_ratio": report.get("noise_floor_ratio"),
        "ci_level": report["ci_level"],
        "data": f"{data['n']:,} images, {data['name']} ({data['split']})" if data else None,
        "data_sha256": data["sha256"] if data else None,
        "pick": report["pick"]["name"] if report.get("pick") else None,
        "warnings": len(report["warnings"]),
    }


def _point(
    report: dict[str, Any],
    name: str,
    reference: str | None,
    of: dict[str, Any] | None,
    warnings: list[str],
    run: dict[str, Any],
) -> dict[str, Any] | None:
    """One variant in one report; None where the report does not have it."""
    variant = next((one for one in report["variants"] if one["name"] == name), None)
    if variant is None:
        return None
    accuracy, artifact = variant.get("accuracy") or {}, variant.get("artifact") or {}
    return {
        "status": variant["status"],
        "speedup": _speedup(report, variant, reference, of, warnings, run),
        "top1": accuracy.get("top1"),
        "drop_pt": 0.0 if name == report.get("baseline") and accuracy else accuracy.get("drop_pt"),
        "drop_pt_low": accuracy.get("drop_pt_low"),
        "drop_pt_high": accuracy.get("drop_pt_high"),
        "bytes": artifact.get("bytes"),
        "sha256": artifact.get("sha256"),
        "peak_memory_bytes": variant.get("peak_memory_bytes"),
    }


def _speedup(
    report: dict[str, Any],
    variant: dict[str, Any],
    reference: str | None,
    of: dict[str, Any] | None,
    warnings: list[str],
    run: dict[str, Any],
) -> dict[str, float | None] | None:
    if reference is None or variant["status"] != "ok":
        return None
    mine = primary_measurement(report, variant)
    if mine is None:
        return None
    if primary(report) != of:
        warnings.append(
            f"run {run['number']} timed something else ({t.timed(primary(report))}): its times are left out"
        )
        return None
    if variant["name"] == reference:
        return {"estimate": 1.0, "low": None, "high": None}
    stated = variant.get("speedup")
    if report.get("baseline") == reference and stated:
        return {key: stated[key] for key in ("estimate", "low", "high")}
    base = next((one for one in report["variants"] if one["name"] == reference), None)
    theirs = primary_measurement(report, base) if base is not None and base["status"] == "ok" else None
    if theirs is None:
        warnings.append(f"run {run['number']} has no times of {reference}: its ratios are left out")
        return None
    warnings.append(
        f"run {run['number']} has another baseline ({report.get('baseline')}): its ratios to {reference} are those of the "
        "medians, without an interval"
    )
    return {"estimate": theirs["p50_ms"] / mine["p50_ms"], "low": None, "high": None}


def _change(
    one: dict[str, Any], runs: Sequence[dict[str, Any]], reference: str | None, *, same_data: bool
) -> dict[str, Any] | None:
    """The last run that has the variant against the first that has it on the same machine, else against the first."""
    known = [(run, point) for run, point in zip(runs, one["points"], strict=True) if point is not None]
    if len(known) < 2:
        return None
    here = [(run, point) for run, point in known if run["machine"] == known[-1][0]["machine"]]
    known = here if len(here) > 1 else known
    (first_run, first), (last_run, last) = known[0], known[-1]
    found: dict[str, Any] = {"name": one["name"], "first": first_run["number"], "last": last_run["number"]}
    found["same_machine"] = len(here) > 1
    floors = [run["noise_floor_ratio"] or 0.0 for run in (first_run, last_run)]
    found["speed"] = None if one["name"] == reference else _ratio(first, last, first_run["ci_level"], floors)
    found["status"] = None if first["status"] == last["status"] else f"{first['status']} → {last['status']}"
    found["same_artifact"] = first["sha256"] is not None and first["sha256"] == last["sha256"]
    both = same_data and first["top1"] is not None and last["top1"] is not None
    found["top1_pt"] = 100 * (last["top1"] - first["top1"]) if both else None
    found["size_ratio"] = last["bytes"] / first["bytes"] if first["bytes"] and last["bytes"] else None
    return found


def _ratio(first: dict[str, Any], last: dict[str, Any], level: float, floors: Sequence[float]) -> dict[str, Any] | None:
    """How the ratio to the reference changed: above 1 faster; its interval from both and from what two copies of the
    baseline differed by in each report, taken as log-normal.
    """
    old, new = first["speedup"], last["speedup"]
    if not old or not new:
        return None
    estimate = new["estimate"] / old["estimate"]
    if any(one[end] is None for one in (old, new) for end in ("low", "high")):
        return {"estimate": estimate, "low": None, "high": None, "verdict": "no interval"}
    widths = [math.log(one["high"] / one["low"]) / 2 for one in (old, new)]
    half = math.hypot(*widths, *(math.log1p(floor) for floor in floors))
    low, high = estimate * math.exp(-half), estimate * math.exp(half)
    verdict = "faster" if low > 1 else "slower" if high < 1 else "no change shown"
    return {"estimate": estimate, "low": low, "high": high, "level": level, "verdict": verdict}
