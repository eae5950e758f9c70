"""Tables for a terminal: of a benchmark, of an evaluation, and what a run tells people at its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deploykit.reporting import format as t
from deploykit.reporting import rows as view
from deploykit.reporting.schema import Report, Speedup, Variant

SPEED = (
    ("variant", "name"),
    ("target", "target"),
    ("p50", "p50"),
    ("p99", "p99"),
    ("speed-up", "speedup"),
    ("interval", "speedup_interval"),
    ("top-1", "top1"),
    ("drop", "drop"),
    ("parity", "parity"),
    ("size", "size"),
)
"""Head and field (of :class:`deploykit.reporting.rows.Row`) of each column of a benchmark's table."""
ACCURACY = (
    ("variant", "name"),
    ("target", "target"),
    ("top-1", "top1"),
    ("interval", "top1_interval"),
    ("top-5", "top5"),
    ("macro F1", "macro_f1"),
    ("ECE", "ece"),
    ("drop", "drop"),
    ("interval", "drop_interval"),
    ("agreement", "agreement"),
    ("neg. flips", "negative_flips"),
    ("McNemar p", "mcnemar_p"),
)
"""The same of an evaluation's; custom metrics follow."""


def speed_table(report: Report) -> str:
    """A benchmark's report: the sentence first, the table, how it was measured, failures with their reason below."""
    rows = view.rows(report)
    facts = [f"{label}: {value}" for label, value in view.how_it_was_measured(report)]
    against = [text, ""] if (text := view.against_text(report)) else []
    lines = [view.headline(report), "", *_columns(rows, SPEED), "", *against, *facts]
    return "\n".join([*lines, *_failures(rows), *_warnings(report)])


def accuracy_table(report: Report) -> str:
    """An evaluation's report: one line per variant, failures with their reason below."""
    rows = view.rows(report)
    known = [one.accuracy.metrics if one.accuracy else {} for one in report.variants]
    names = sorted({name for own in known for name in own})
    more = [[t.NONE if (one := own.get(name)) is None else t.number(one, 4) for name in names] for own in known]
    lines, data = _columns(rows, ACCURACY, [names, *more]), report.data
    if data is not None:
        lines.insert(0, f"{data.n:,} images of {data.name} ({data.split}), {100 * report.ci_level:g} % intervals")
    return "\n".join([*lines, *_failures(rows), *_warnings(report)])


def _columns(
    rows: Sequence[view.Row], columns: Sequence[tuple[str, str]], more: Sequence[Sequence[str]] = ()
) -> list[str]:
    """The table's lines; ``more`` are further cells of the head and of each row."""
    cells = [[head for head, _ in columns], *([getattr(row, key) for _, key in columns] for row in rows)]
    cells = [[*line, *extra] for line, extra in zip(cells, more or [[]] * len(cells), strict=True)]
    return t.aligned(cells, right=range(2, len(cells[0])))


def _failures(rows: Sequence[view.Row]) -> list[str]:
    return [f"{row.name} {row.status}: {row.reason}" for row in rows if row.status != "ok"]


def _warnings(report: Report) -> list[str]:
    return [f"warning: {one}" for one in report.warnings]


def plan_of(name: str, folder: Path, stages: Sequence[Sequence[str]]) -> str:
    """What a run would do.

    Args:
        name: of the recipe.
        folder: of the run.
        stages: name, status and reason of each.
    """
    return "\n".join([f"{name}: what `deploykit run` would do in {folder}", *t.aligned(stages)])


def summary_of(report: Report, folder: Path, statuses: Sequence[str], gate: str | None) -> str:
    """Variants, pick, stages, gate and the report's place.

    Args:
        report: of the run.
        folder: of the run.
        statuses: what became of each stage.
        gate: its verdict for people, or None where the recipe has none.
    """
    head = ["variant", "target", "status", "p50", "speed-up", "top-1", "drop", "size"]
    lines = t.aligned([head, *([*_cells(variant, report.baseline)] for variant in report.variants)])
    for variant in report.variants:
        if variant.status != "ok":
            lines.append(f"{variant.name} {variant.status}: {variant.reason}")
    pick = report.pick
    lines.append(f"pick: {pick.name}: {pick.why}" if pick else "pick: none")
    kept = sum(one == "kept" for one in statuses)
    lines.append(f"stages: {len(statuses) - kept} run, {kept} kept")
    if gate is not None:
        lines.append(f"gate: {gate}")
    lines.append(f"report: {(folder / 'report.html').as_posix()}")
    return "\n".join(lines)


def _cells(variant: Variant, baseline: str | None) -> list[str]:
    timed = next((one for one in variant.measurements if one.timed == "compute"), None)
    accuracy, artifact = variant.accuracy, variant.artifact
    drop = accuracy.drop_pt if accuracy else None
    return [
        variant.name,
        variant.target,
        variant.status,
        f"{timed.p50_ms:.3f} ms" if timed else t.NONE,
        "baseline" if variant.name == baseline else _speedup(variant.speedup),
        f"{100 * accuracy.top1:.2f} %" if accuracy else t.NONE,
        f"{drop:+.2f} pt" if drop is not None else t.NONE,
        f"{artifact.bytes / 1e6:.2f} MB" if artifact else t.NONE,
    ]


def _speedup(speedup: Speedup | None) -> str:
    if not speedup:
        return t.NONE
    interval = f" [{speedup.low:.2f}, {speedup.high:.2f}]" if speedup.low is not None else ""
    return f"{speedup.estimate:.2f}×{interval}"
