"""Attachments as what the page's template shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from deploykit.reporting import format as t
from deploykit.reporting.attachments.files import attachments_of
from deploykit.reporting.attachments.kinds import Attachment, Series, Table
from deploykit.reporting.attachments.sensitivity_schema import Sensitivity
from deploykit.reporting.charts.bars import bars_chart
from deploykit.reporting.charts.series import series_chart
from deploykit.reporting.schema import Report
from deploykit.reporting.sensitivity_page import table_context

ROWS_SHOWN = 400
WIDTHS = ((1040, "wide"), (388, "narrow"))


def shown(report: Report, folder: Path) -> list[dict[str, object]]:
    """One dictionary per attachment that can be drawn; see ``templates/attachments.html``."""
    found = []
    for one, file, variants in attachments_of(report, folder):
        every = len(variants) == len(report.variants) > 1
        whose = "every variant" if every else ", ".join(variants)
        found.append(
            {**_drawn(one), "title": one.title, "stage": one.stage, "note": one.note, "file": file, "of": whose}
        )
    return found


def _drawn(one: Attachment) -> dict[str, object]:
    content = one.content()
    if isinstance(content, Table):
        return {"kind": "table", **_table(content)}
    if isinstance(content, Sensitivity):
        return {"kind": "sensitivity", **table_context(content)}
    if isinstance(content, Series):
        charts = [series_chart(content, width, style, one.title) for width, style in WIDTHS]
        return {"kind": "chart", "charts": charts, "keys": [line.name for line in content.lines]}
    charts = [bars_chart(content, width, style, one.title) for width, style in WIDTHS]
    return {"kind": "chart", "charts": charts, "keys": content.names}


def _table(table: Table) -> dict[str, object]:
    rows = [
        [cell(value, column.digits) for value, column in zip(row, table.columns, strict=True)]
        for row in table.rows[:ROWS_SHOWN]
    ]
    return {"columns": table.columns, "rows": rows, "left_out": max(0, len(table.rows) - ROWS_SHOWN)}


def cell(value: Any, digits: int = 3) -> str | Markup:
    """A cell of a table as text."""
    if value is None:
        return t.NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace("-", t.MINUS)
    return t.number(value, digits) if isinstance(value, float) else str(value)
