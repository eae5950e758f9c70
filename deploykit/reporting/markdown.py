"""The report for a pull request: the sentence, one table, the rest folded."""

from __future__ import annotations

from urllib.parse import quote

from deploykit.reporting import headline as heads
from deploykit.reporting import rows as view
from deploykit.reporting.format import NONE, code, escaped, folded, table
from deploykit.reporting.pick import primary
from deploykit.reporting.rows import Row
from deploykit.reporting.schema import Report


def _with(value: str, interval: str) -> str:
    return f"{escaped(value)}<br><sub>{escaped(interval)}</sub>" if interval else escaped(value)


def to_markdown(report: Report) -> str:
    """The Markdown page of a checked report."""
    rows = view.rows(report)
    lines = [f"## {escaped(heads.title(report))}", "", f"**{escaped(heads.headline(report))}**"]
    if detail := heads.detail(report):
        lines += ["", escaped(detail)]
    if among := heads.judged_among(report):
        lines += ["", escaped(among)]
    lines += ["", *_main_table(report, rows), ""]
    lines += _against(report)
    lines += [f"> ⚠️ {escaped(warning)}\n" for warning in report.warnings]
    bad = [row for row in rows if row.status != "ok"]
    if bad:
        lines += [f"- **{escaped(row.name)}** {row.mark}: {escaped(row.reason)}" for row in bad]
        lines.append("")
    lines += folded("What was measured", _facts(view.how_it_was_measured(report)) + _measurements(report))
    lines += folded("Accuracy in full", _accuracy(report, rows))
    lines += folded("How to make each artifact again", _lineage(report))
    lines += folded("How it came about", _attachments(report))
    lines += folded("Environment", _facts(view.environment_rows(report)))
    return "\n".join(lines).rstrip() + "\n"


def _main_table(report: Report, rows: list[Row]) -> list[str]:
    timed, judged = primary(report) is not None, any(row.quality != NONE for row in rows)
    head = ["Variant", "Target"]
    head += ["Latency p50", "p99", "Speed-up"] if timed else []
    head += [view.metric_head(report), "Drop", "Flips"] if judged else []
    head += ["Size", "Parity"]
    cells = []
    for row in rows:
        mark = " ✅" if row.is_pick else ""
        name = f"**{escaped(row.name)}**{mark}" if row.is_pick else escaped(row.name)
        line = [f"{name} ({row.mark})" if row.mark else name, escaped(row.target)]
        if timed:
            line += [_with(row.p50, row.p50_interval), escaped(row.p99)]
            line += [_with(row.speedup, row.speedup_interval)]
        if judged:
            line += [_with(row.quality, row.quality_interval), _with(row.drop, row.drop_interval)]
            line += [escaped(row.negative_flips)]
        line += [escaped(row.size), _parity(row)]
        cells.append(line)
    return table(head, cells, "ll" + "r" * (len(head) - 2))


def _against(report: Report) -> list[str]:
    rows = view.against_rows(report)
    if not rows:
        return []
    head = ["Variant", "Speed", "Drop", "Flips", "Size", "Verdict"]
    cells = [
        [
            escaped(row["name"]),
            _with(row["speedup"], row["speedup_interval"]),
            _with(row["drop"], row["drop_interval"]),
            escaped(row["negative_flips"]),
            escaped(row["size"]),
            escaped(row["verdict"]),
        ]
        for row in rows
    ]
    return [
        f"Against {escaped(report.against)}, measured in the same rounds:",
        "",
        *table(head, cells, "lrrrrl"),
        "",
    ]


def _parity(row: Row) -> str:
    return escaped(row.parity) + (" ❌" if row.parity_ok is False else "")


def _facts(facts: list[tuple[str, str]]) -> list[str]:
    return [*table(["", ""], [[escaped(label), escaped(value)] for label, value in facts], "ll"), ""] if facts else []


def _measurements(report: Report) -> list[str]:
    keys = ("timed", "n", "blocks", "p50", "p90", "p99", "mean", "throughput")
    rows = view.measurement_rows(report)
    head = ["Variant", "Timed", "Calls", "Blocks", "p50", "p90", "p99", "Mean", "Throughput"]
    cells = [[escaped(row["name"]), *(escaped(row[key]) for key in keys)] for row in rows]
    return table(head, cells, "llrrrrrrr") if rows else []


def _accuracy(report: Report, rows: list[Row]) -> list[str]:
    keys = ("quality", "top5", "macro_f1", "ece", "drop", "agreement", "negative_flips", "mcnemar_p")
    known = [row for row in rows if row.quality != NONE]
    head = [
        "Variant",
        view.metric_head(report),
        "Top-5",
        "Macro F1",
        "ECE",
        "Drop",
        "Agreement",
        "Negative flips",
        "McNemar p",
    ]
    cells = [[escaped(row.name), *(escaped(getattr(row, key)) for key in keys)] for row in known]
    return table(head, cells, "lrrrrrrrr") if known else []


def _lineage(report: Report) -> list[str]:
    lines = []
    for variant in report.variants:
        if not variant.steps:
            continue
        lines.append(f"- **{escaped(variant.name)}**")
        for step in variant.steps:
            command = f": {code(step.command)}" if step.command else ""
            output = f" → {code(step.output)}" if step.output else ""
            lines.append(f"  1. {escaped(step.stage)}{command}{output}")
    return lines


def _attachments(report: Report) -> list[str]:
    """Each attached file once, with the variants that have it."""
    files: dict[str, tuple[str, list[str]]] = {}
    for variant in report.variants:
        for one in variant.attachments:
            files.setdefault(one.file, (one.title, []))[1].append(variant.name)
    return [
        f"- [{escaped(title)}](<./{quote(file)}>): {escaped(', '.join(names))}"
        for file, (title, names) in files.items()
    ]
