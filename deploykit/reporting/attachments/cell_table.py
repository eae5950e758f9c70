"""``table``: rows of cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from markupsafe import Markup
from pydantic import Field, model_validator

from deploykit.reporting import format as t
from deploykit.reporting.attachments.kinds import Attachment, Content, Name, Piece, made

ROWS_SHOWN = 400


class Column(Piece):
    """A column of a table; ``digits`` are significant ones of its numbers."""

    name: Name
    unit: Annotated[str, Field(max_length=20)] | None = None
    align: Literal["left", "right"] = "right"
    digits: Annotated[int, Field(ge=1, le=9)] = 3


Cell = bool | int | Annotated[float, Field(allow_inf_nan=False)] | Annotated[str, Field(max_length=500)] | None


class Table(Content):
    """Rows of cells, one for each column; null is shown as a dash."""

    columns: Annotated[list[Column], Field(min_length=1, max_length=32)]
    rows: Annotated[list[list[Cell]], Field(max_length=5000)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"row {number} has {len(row)} cells, the table {len(self.columns)} columns")
        return self

    def shown(self, title: str) -> dict[str, object]:
        """The first rows, and how many are left out."""
        rows = [
            [cell(value, column.digits) for value, column in zip(row, self.columns, strict=True)]
            for row in self.rows[:ROWS_SHOWN]
        ]
        return {
            "kind": "table",
            "columns": self.columns,
            "rows": rows,
            "left_out": max(0, len(self.rows) - ROWS_SHOWN),
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


def table(
    title: str,
    stage: str,
    columns: Sequence[str | Mapping[str, Any]],
    rows: Sequence[Sequence[Any]],
    note: str | None = None,
) -> Attachment:
    """A table.

    Args:
        title: above it.
        stage: that makes it.
        columns: names, or mappings ``{name, unit, align, digits}``.
        rows: of text, numbers, True, False or None, one cell a column; NaN and infinities become None.
        note: a sentence below the title.

    Raises:
        BadInput: it does not fit :class:`Table`.
    """
    full = [{"name": one} if isinstance(one, str) else dict(one) for one in columns]
    return made("table", title, stage, note, {"columns": full, "rows": [list(row) for row in rows]})
