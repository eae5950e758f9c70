"""The comparison of several reports as HTML and Markdown."""

from __future__ import annotations

from pathlib import Path

from deploykit.base.atomic import write_json, write_text
from deploykit.reporting import format as t
from deploykit.reporting.charts.trend import drawn, trend_chart
from deploykit.reporting.compare import SCHEMA, Comparison, Point
from deploykit.reporting.format import escaped, folded, table
from deploykit.reporting.pages import render, when
from deploykit.reporting.write import marked

MOVED = ("faster", "slower")
NAMES = ("comparison.html", "comparison.md", "comparison.json")


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write ``comparison.html``, ``comparison.md`` and ``comparison.json`` into ``folder``."""
    write_text(folder / NAMES[0], marked(to_html(comparison)))
    write_text(folder / NAMES[1], marked(to_markdown(comparison)))
    write_json(folder / NAMES[2], comparison.plain())
    return [folder / name for name in NAMES]


def headline(comparison: Comparison) -> str:
    """The comparison in one sentence."""
    runs, changes = len(comparison.runs), comparison.changes
    moved = [(one.name, one.speed) for one in changes if one.same_machine and one.speed]
    moved = [(name, speed) for name, speed in moved if speed.verdict in MOVED]
    if not moved:
        timed = any(one.speed for one in changes)
        return f"{runs} reports: " + (
            "no variant's speed changed beyond its interval." if timed else "nothing to time."
        )
    told = [f"{name} is {_percent(speed.estimate)} {speed.verdict}" for name, speed in moved]
    shown = ", ".join(told[:3]) + (f" and {len(told) - 3} more changed" if len(told) > 3 else "")
    return f"{runs} reports: {shown} than at first, measured against {comparison.reference}."


def _percent(ratio: float) -> str:
    return f"{100 * abs(ratio - 1):.1f} %"


def cells(comparison: Comparison, key: str) -> list[list[dict[str, str]]]:
    """One row of texts per variant: value and what stands small below it, for ``speedup``, ``accuracy`` or ``size``."""
    return [[_cell(point, key, comparison, one.name) for point in one.points] for one in comparison.variants]


def _cell(point: Point | None, key: str, comparison: Comparison, name: str) -> dict[str, str]:
    if point is None:
        return {"value": t.NONE, "below": ""}
    found = _known(point, key, comparison, name)
    if point.status == "ok":
        return found
    if found["value"] == t.NONE:
        return {"value": point.status, "below": ""}
    return {"value": found["value"], "below": ", ".join(one for one in (found["below"], point.status) if one)}


def _known(point: Point, key: str, comparison: Comparison, name: str) -> dict[str, str]:
    if key == "speedup":
        if name == comparison.reference and point.speedup:
            return {"value": "1 (baseline)", "below": ""}
        return {
            "value": t.ratio(point.speedup.estimate if point.speedup else None),
            "below": t.ratio_interval(point.speedup),
        }
    if key == "accuracy":
        drop = "" if point.drop_pt is None else f"drop {t.points(point.drop_pt)}"
        return {"value": t.percent(point.top1), "below": drop}
    return {"value": t.size(point.bytes), "below": ""}


def change_rows(comparison: Comparison) -> list[dict[str, str]]:
    """What changed from the first run that has a variant to the last."""
    rows = []
    for one in comparison.changes:
        speed = one.speed
        rows.append(
            {
                "name": one.name,
                "runs": f"{one.first} → {one.last}" + ("" if one.same_machine else ", another machine"),
                "speed": t.ratio(speed.estimate) if speed else t.NONE,
                "interval": t.ratio_interval(speed),
                "verdict": one.status or (speed.verdict if speed else t.NONE),
                "top1": t.points(one.top1_pt),
                "size": t.ratio(one.size_ratio),
                "artifact": "the same file" if one.same_artifact else "another file",
            }
        )
    return rows


def to_html(comparison: Comparison) -> str:
    """The page: self-contained, no network, no script."""
    plots = [trend_chart(comparison, 1040, "wide"), trend_chart(comparison, 388, "narrow")]
    slower = any(one.same_machine and one.speed and one.speed.verdict == "slower" for one in comparison.changes)
    return render(
        "compare.html",
        schema=SCHEMA,
        headline=headline(comparison),
        mood="unsure" if slower else "good",
        comparison=comparison,
        runs=comparison.runs,
        plots=[one for one in plots if one is not None],
        lines=[one.name for one in drawn(comparison)],
        timed=t.timed(comparison.of),
        names=[one.name for one in comparison.variants],
        tables=[
            (title, lead, cells(comparison, key))
            for title, lead, key in (
                (
                    "Speed-up",
                    f"Over {comparison.reference} of the same report, paired; small figures are intervals.",
                    "speedup",
                ),
                ("Top-1", "Each on its own report's images; the drop is against that report's baseline.", "accuracy"),
                ("Size", "Of the artifact.", "size"),
            )
        ],
        changes=change_rows(comparison),
    )


def to_markdown(comparison: Comparison) -> str:
    """The Markdown page: the sentence, what changed, the rest folded."""
    runs = comparison.runs
    lines = ["## Reports compared", "", f"**{escaped(headline(comparison))}**", ""]
    lines += [f"> ⚠️ {escaped(one)}\n" for one in comparison.warnings]
    head = ["Variant", "Runs", "Speed, last / first", "", "Top-1", "Size", "Artifact"]
    rows = [
        [
            escaped(one["name"]),
            escaped(one["runs"]),
            escaped(one["speed"]) + (f"<br><sub>{escaped(one['interval'])}</sub>" if one["interval"] else ""),
            escaped(one["verdict"]),
            escaped(one["top1"]),
            escaped(one["size"]),
            escaped(one["artifact"]),
        ]
        for one in change_rows(comparison)
    ]
    lines += [*table(head, rows, "llrlrrl"), ""] if rows else []
    for title, key in (("Speed-up", "speedup"), ("Top-1", "accuracy"), ("Size", "size")):
        body = [
            [escaped(one.name), *(_two(cell) for cell in row)]
            for one, row in zip(comparison.variants, cells(comparison, key), strict=True)
        ]
        lines += folded(
            f"{title} by run", table(["Variant", *(str(run.number) for run in runs)], body, "l" + "r" * len(runs))
        )
    listed = [
        [
            str(run.number),
            escaped(run.label),
            escaped(when(run.created)),
            escaped(run.machine),
            escaped(run.data or t.NONE),
        ]
        for run in runs
    ]
    lines += folded("The reports", table(["Run", "Report", "Measured", "Machine", "Data"], listed, "rllll"))
    return "\n".join(lines).rstrip() + "\n"


def _two(cell: dict[str, str]) -> str:
    return escaped(cell["value"]) + (f"<br><sub>{escaped(cell['below'])}</sub>" if cell["below"] else "")
