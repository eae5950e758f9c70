"""Several reports as one comparison: how each variant's ratio to the baseline, accuracy and size went over time and machines.

Milliseconds of two reports are never compared: they were taken on different machines, or on one machine in another mood.
What is compared is the time as a ratio to a variant that was measured beside it in each report.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deploykit.base.errors import BadInput
from deploykit.reporting import format as t
from deploykit.reporting.pick import primary, primary_measurement
from deploykit.reporting.rows import mark_of
from deploykit.reporting.schema import Of, Report, Variant

SCHEMA = "deploykit.comparison/1"


@dataclass(frozen=True)
class Run:
    """One report of the comparison; ``data`` is what its accuracy was measured on, in words."""

    number: int
    label: str
    created: str
    recipe: str | None
    machine: str
    libraries: dict[str, str]
    noise_floor_ratio: float | None
    ci_level: float
    data: str | None
    data_sha256: str | None
    pick: str | None
    warnings: int


@dataclass(frozen=True)
class Ratio:
    """A ratio with its interval; None where there is none."""

    estimate: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Point:
    """One variant in one report; ``speedup`` is over the comparison's reference."""

    status: str
    speedup: Ratio | None
    top1: float | None
    drop_pt: float | None
    drop_pt_low: float | None
    drop_pt_high: float | None
    bytes: int | None
    sha256: str | None
    peak_memory_bytes: int | None


@dataclass(frozen=True)
class Line:
    """One variant with a point per run, None where it was not measured."""

    name: str
    points: list[Point | None]


@dataclass(frozen=True)
class Moved:
    """How a variant's ratio to the reference changed: above 1 faster."""

    estimate: float
    low: float | None
    high: float | None
    level: float | None
    verdict: str


@dataclass(frozen=True)
class Change:
    """The last run that has a variant against the first (``first`` and ``last`` are their numbers)."""

    name: str
    first: int
    last: int
    same_machine: bool
    speed: Moved | None
    status: str | None
    same_artifact: bool
    top1_pt: float | None
    size_ratio: float | None


@dataclass(frozen=True)
class Comparison:
    """Reports beside each other, the oldest first.

    Attributes:
        reference: variant that times are divided by.
        of: what was timed.
        runs: one per report.
        variants: in the order in which they first occur.
        changes: of those that two runs have.
        warnings: what is not compared, and why.
    """

    reference: str | None
    of: Of | None
    runs: list[Run]
    variants: list[Line]
    changes: list[Change]
    warnings: list[str]

    def plain(self) -> dict[str, Any]:
        """JSON-able, as it stands in ``comparison.json``."""
        fields = asdict(self)
        fields["of"] = None if self.of is None else dict(sorted(self.of.plain().items()))
        for change in fields["changes"]:
            if change["speed"] is not None and change["speed"]["level"] is None:
                del change["speed"]["level"]
        return {"schema": SCHEMA, **fields}


def compare(reports: Sequence[Report], labels: Sequence[str]) -> Comparison:
    """Put reports beside each other.

    Args:
        reports: at least two.
        labels: of each, as the user named it.

    Raises:
        BadInput: no variant was measured in two of the reports.
    """
    order = sorted(range(len(reports)), key=lambda i: (reports[i].created, i))
    ordered, named = [reports[i] for i in order], [labels[i] for i in order]
    reference, of, warnings = _reference(ordered), _of(ordered), list[str]()
    runs = [_run(number, report, label) for number, (report, label) in enumerate(zip(ordered, named, strict=True), 1)]
    names = list(dict.fromkeys(variant.name for report in ordered for variant in report.variants))
    variants = [
        Line(
            name,
            [_point(report, name, reference, of, warnings, run) for report, run in zip(ordered, runs, strict=True)],
        )
        for name in names
    ]
    if not any(sum(point is not None for point in one.points) > 1 for one in variants):
        raise BadInput(
            "the reports have nothing in common",
            got=", ".join(names),
            expected="a variant of the same name in two of them",
        )
    data = {run.data_sha256 for run in runs if run.data_sha256}
    if len(data) > 1:
        warnings.append("accuracy was measured on different images: drops and top-1 of these reports are not compared")
    machines = {run.machine for run in runs}
    if len(machines) > 1:
        warnings.append(
            f"{len(machines)} different machines: a ratio may differ between them without any change of the variant"
        )
    changes = [_change(one, runs, reference, same_data=len(data) <= 1) for one in variants]
    return Comparison(
        reference,
        of,
        runs,
        variants,
        [one for one in changes if one is not None],
        list(dict.fromkeys(warnings)),
    )


def _reference(reports: Sequence[Report]) -> str | None:
    """The baseline of most of the reports."""
    named = Counter(report.baseline for report in reports if report.baseline)
    return named.most_common(1)[0][0] if named else None


def _of(reports: Sequence[Report]) -> Of | None:
    """What most of the reports timed."""
    timed = [one for one in map(primary, reports) if one is not None]
    found = Counter(tuple(one.plain().items()) for one in timed)
    return Of(**dict(found.most_common(1)[0][0])) if found else None


def machine_of(report: Report) -> str:
    """The processor, or the GPUs where there are any, in one line."""
    environment = report.environment
    gpus = [one.get("name") if isinstance(one, dict) else one for one in environment.get("gpus") or []]
    cpu = environment.get("cpu")
    if gpus and any(gpus):
        return ", ".join(str(one) for one in gpus)
    if isinstance(cpu, dict):
        return f"{cpu.get('model')}, {cpu.get('cores')} cores"
    return "unknown machine"


def _run(number: int, report: Report, label: str) -> Run:
    data, libraries = report.data, report.environment.get("libraries")
    return Run(
        number=number,
        label=label,
        created=report.created,
        recipe=report.recipe,
        machine=machine_of(report),
        libraries=libraries if isinstance(libraries, dict) else {},
        noise_floor_ratio=report.noise_floor_ratio,
        ci_level=report.ci_level,
        data=f"{data.n:,} images, {data.name} ({data.split})" if data else None,
        data_sha256=data.sha256 if data else None,
        pick=report.pick.name if report.pick else None,
        warnings=len(report.warnings),
    )


def _point(
    report: Report, name: str, reference: str | None, of: Of | None, warnings: list[str], run: Run
) -> Point | None:
    """One variant in one report; None where the report does not have it."""
    variant = report.variant(name)
    if variant is None:
        return None
    accuracy, artifact = variant.accuracy, variant.artifact
    drop = (accuracy.drop_pt, accuracy.drop_pt_low, accuracy.drop_pt_high) if accuracy else (None, None, None)
    return Point(
        status=mark_of(variant) or variant.status,
        speedup=_speedup(report, variant, reference, of, warnings, run),
        top1=accuracy.top1 if accuracy else None,
        drop_pt=0.0 if name == report.baseline and accuracy else drop[0],
        drop_pt_low=drop[1],
        drop_pt_high=drop[2],
        bytes=artifact.bytes if artifact else None,
        sha256=artifact.sha256 if artifact else None,
        peak_memory_bytes=variant.peak_memory_bytes,
    )


def _speedup(
    report: Report, variant: Variant, reference: str | None, of: Of | None, warnings: list[str], run: Run
) -> Ratio | None:
    if reference is None:
        return None
    mine = primary_measurement(report, variant)
    if mine is None:
        return None
    if primary(report) != of:
        warnings.append(f"run {run.number} timed something else ({t.timed(primary(report))}): its times are left out")
        return None
    if variant.name == reference:
        return Ratio(1.0)
    stated = variant.speedup
    if report.baseline == reference and stated:
        return Ratio(stated.estimate, stated.low, stated.high)
    base = report.variant(reference)
    theirs = primary_measurement(report, base) if base is not None else None
    if theirs is None:
        warnings.append(f"run {run.number} has no times of {reference}: its ratios are left out")
        return None
    warnings.append(
        f"run {run.number} has another baseline ({report.baseline}): its ratios to {reference} are those of the medians, "
        "without an interval"
    )
    return Ratio(theirs.p50_ms / mine.p50_ms)


def _change(one: Line, runs: Sequence[Run], reference: str | None, *, same_data: bool) -> Change | None:
    """The last run that has the variant against the first that has it on the same machine, else against the first."""
    known = [(run, point) for run, point in zip(runs, one.points, strict=True) if point is not None]
    if len(known) < 2:
        return None
    here = [(run, point) for run, point in known if run.machine == known[-1][0].machine]
    known = here if len(here) > 1 else known
    (first_run, first), (last_run, last) = known[0], known[-1]
    floors = [run.noise_floor_ratio or 0.0 for run in (first_run, last_run)]
    both = same_data and first.top1 is not None and last.top1 is not None
    return Change(
        name=one.name,
        first=first_run.number,
        last=last_run.number,
        same_machine=len(here) > 1,
        speed=None if one.name == reference else _moved(first.speedup, last.speedup, first_run.ci_level, floors),
        status=None if first.status == last.status else f"{first.status} → {last.status}",
        same_artifact=first.sha256 is not None and first.sha256 == last.sha256,
        top1_pt=100 * ((last.top1 or 0.0) - (first.top1 or 0.0)) if both else None,
        size_ratio=last.bytes / first.bytes if first.bytes and last.bytes else None,
    )


def _moved(old: Ratio | None, new: Ratio | None, level: float, floors: Sequence[float]) -> Moved | None:
    """The interval is made from both and from what two copies of the baseline differed by in each report, taken as
    log-normal.
    """
    if not old or not new:
        return None
    estimate = new.estimate / old.estimate
    widths = [math.log(one.high / one.low) / 2 for one in (old, new) if one.high is not None and one.low is not None]
    if len(widths) < 2:
        return Moved(estimate, None, None, None, "no interval")
    half = math.hypot(*widths, *(math.log1p(floor) for floor in floors))
    low, high = estimate * math.exp(-half), estimate * math.exp(half)
    verdict = "faster" if low > 1 else "slower" if high < 1 else "no change shown"
    return Moved(estimate, low, high, level, verdict)


def labels_of(places: Sequence[Path]) -> list[str]:
    """What tells the reports apart: the last parts of their paths, as many as it takes; never a whole path."""
    parts = [[*place.resolve().parts] for place in places]
    trimmed = [one[:-1] if one[-1] == "report.json" else one for one in parts]
    for length in range(1, 4):
        labels = ["/".join(one[-length:]) for one in trimmed]
        if len(set(labels)) == len(labels):
            break
    return labels
