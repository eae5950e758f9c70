"""Tables for a terminal: of a benchmark, of an evaluation, and what a run tells people at its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deploykit.reporting import format as t
from deploykit.reporting import headline as heads
from deploykit.reporting import rows as view
from deploykit.reporting.pick import metric_of
from deploykit.reporting.schema import Report

METRIC = "{metric}"
SPEED = (
    ("variant", "marked"),
    ("target", "target"),
    ("p50", "p50"),
    ("p99", "p99"),
    ("speed-up", "speedup"),
    ("interval", "speedup_interval"),
    (METRIC, "quality"),
    ("drop", "drop"),
    ("parity", "parity"),
    ("size", "size"),
)
"""Head and field (of :class:`deploykit.reporting.rows.Row`) of each column of a benchmark's table."""
ACCURACY = (
    ("variant", "marked"),
    ("target", "target"),
    (METRIC, "quality"),
    ("interval", "quality_interval"),
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
    facts = [f"{label}: {value}" for label, value in view.how_it_was_measured(report)]
    against = [text, ""] if (text := view.against_text(report)) else []
    among = [text] if (text := heads.judged_among(report)) else []
    lines = [heads.headline(report), *among, "", *_columns(report, SPEED), "", *against, *facts]
    return "\n".join([*lines, *_not_ok(report), *_warnings(report)])


def accuracy_table(report: Report) -> str:
    """An evaluation's report: one line per variant, failures with their reason below."""
    known = [one.accuracy.metrics if one.accuracy else {} for one in report.variants]
    names = sorted({name for own in known for name in own})
    more = [[t.NONE if (one := own.get(name)) is None else t.number(one, 4) for name in names] for own in known]
    lines, data = _columns(report, ACCURACY, [names, *more]), report.data
    lines[:0] = [text] if (text := heads.judged_among(report)) else []
    if data is not None:
        lines.insert(0, f"{data.n:,} images of {data.name} ({data.split}), {100 * report.ci_level:g} % intervals")
    return "\n".join([*lines, *_not_ok(report), *_warnings(report)])


def _columns(report: Report, columns: Sequence[tuple[str, str]], more: Sequence[Sequence[str]] = ()) -> list[str]:
    """The table's lines, without the columns of which nothing is known; ``more`` are further cells of head and rows."""
    rows = view.rows(report)
    shown = [(head, key) for head, key in columns if any(getattr(row, key) not in ("", t.NONE) for row in rows)]
    heads = [head.format(metric=metric_of(report)) for head, _ in shown]
    cells = [heads, *([getattr(row, key) for _, key in shown] for row in rows)]
    cells = [[*line, *extra] for line, extra in zip(cells, more or [[]] * len(cells), strict=True)]
    return t.aligned(cells, right=range(2, len(cells[0])))


def _not_ok(report: Report) -> list[str]:
    return [f"{one.name} {view.mark_of(one)}: {one.reason}" for one in report.variants if one.status != "ok"]


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
    pick, kept = report.pick, sum(one == "kept" for one in statuses)
    among = [text] if (text := heads.judged_among(report)) else []
    lines = [*_columns(report, SPEED), *_not_ok(report), *among, *_warnings(report)]
    lines.append(f"pick: {pick.name}: {pick.why}" if pick else "pick: none")
    lines.append(f"stages: {len(statuses) - kept} run, {kept} kept")
    lines += [f"gate: {gate}"] if gate is not None else []
    lines.append(f"report: {(folder / 'report.html').as_posix()}")
    return "\n".join(lines)
