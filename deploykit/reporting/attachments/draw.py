"""Attachments as what the page's template shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from deploykit.reporting import format as t
from deploykit.reporting.attachments.files import attachments_of
from deploykit.reporting.attachments.kinds import Attachment
from deploykit.reporting.charts.bars import bars_chart
from deploykit.reporting.charts.series import series_chart
from deploykit.reporting.sensitivity_page import table_context

ROWS_SHOWN = 400
WIDTHS = ((1040, "wide"), (388, "narrow"))


def shown(report: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """One dictionary per attachment that can be drawn; see ``templates/attachments.html``."""
    found = []
    for one, file, variants in attachments_of(report, folder):
        every = len(variants) == len(report["variants"]) > 1
        whose = "every variant" if every else ", ".join(variants)
        found.append(
            {**_drawn(one), "title": one.title, "stage": one.stage, "note": one.note, "file": file, "of": whose}
        )
    return found


def _drawn(one: Attachment) -> dict[str, Any]:
    payload = one.payload
    if one.kind == "table":
        return {"kind": "table", **_table(payload)}
    if one.kind == "sensitivity":
        return {"kind": "sensitivity", **table_context(payload)}
    draw = series_chart if one.kind == "series" else bars_chart
    names = [line["name"] for line in payload["lines"]] if one.kind == "series" else payload["names"]
    return {
        "kind": "chart",
        "charts": [draw(payload, width, style, one.title) for width, style in WIDTHS],
        "keys": names,
    }


def _table(payload: dict[str, Any]) -> dict[str, Any]:
    columns, rows = payload["columns"], payload["rows"]
    return {
        "columns": columns,
        "rows": [
            [cell(value, column["digits"]) for value, column in zip(row, columns, strict=True)]
            for row in rows[:ROWS_SHOWN]
        ],
        "left_out": max(0, len(rows) - ROWS_SHOWN),
    }


def cell(value: Any, digits: int = 3) -> str | Markup:
    """A cell of a table as text."""
    if value is None:
        return t.NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace("-", t.MINUS)
    return t.number(value, digits) if isinstance(value, float) else str(value)
