"""The kinds of attachments, field by field; what comes from a file is checked against these before it is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from deploykit.base.errors import BadInput
from deploykit.reporting.attachments.sensitivity_schema import Sensitivity
from deploykit.reporting.read import plain

SCHEMA = "deploykit.attachment/1"
LARGEST = 1e15
"""Of a number that is drawn: beyond it scales would overflow."""

Name = Annotated[str, Field(min_length=1, max_length=200)]
Text = Annotated[str, Field(max_length=1000)]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]


class Piece(BaseModel):
    """A piece of an attachment: no NaN, unknown keys refused."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Column(Piece):
    """A column of a table; ``digits`` are significant ones of its numbers."""

    name: Name
    unit: Annotated[str, Field(max_length=20)] | None = None
    align: Literal["left", "right"] = "right"
    digits: Annotated[int, Field(ge=1, le=9)] = 3


Cell = bool | int | Annotated[float, Field(allow_inf_nan=False)] | Annotated[str, Field(max_length=500)] | None


class Table(Piece):
    """Rows of cells, one for each column; null is shown as a dash."""

    columns: Annotated[list[Column], Field(min_length=1, max_length=32)]
    rows: Annotated[list[list[Cell]], Field(max_length=5000)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"row {number} has {len(row)} cells, the table {len(self.columns)} columns")
        return self


class Axis(Piece):
    """What an axis shows; a logarithmic one takes positive values only."""

    label: Name
    unit: Annotated[str, Field(max_length=20)] | None = None
    log: bool = False

    @property
    def shown(self) -> str:
        """``loss``, ``time, ms``, ``loss, log scale``."""
        return ", ".join([self.label, *([self.unit] if self.unit else []), *(["log scale"] if self.log else [])])


class Line(Piece):
    """One line of a chart: its points ``[x, y]`` in the order they are joined."""

    name: Name
    points: Annotated[list[Annotated[list[Number], Field(min_length=2, max_length=2)]], Field(max_length=2000)]


class Series(Piece):
    """A line chart, learning curves for instance."""

    x: Axis
    y: Axis
    lines: Annotated[list[Line], Field(min_length=1, max_length=12)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for place, axis in enumerate((self.x, self.y)):
            if axis.log and any(point[place] <= 0 for line in self.lines for point in line.points):
                raise ValueError(f"the logarithmic axis {axis.label!r} has a value that is not positive")
        return self


class Group(Piece):
    """What is compared in one place: a value for each name of the bars, null where there is none."""

    name: Name
    values: list[Annotated[Number, Field(ge=0)] | None]


class Bars(Piece):
    """Grouped bars from zero, widths of layers before and after for instance."""

    label: Name
    unit: Annotated[str, Field(max_length=20)] | None = None
    names: Annotated[list[Name], Field(min_length=1, max_length=6)]
    groups: Annotated[list[Group], Field(max_length=500)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for group in self.groups:
            if len(group.values) != len(self.names):
                raise ValueError(f"{group.name!r} has {len(group.values)} values for {len(self.names)} names")
        return self


Content = Table | Series | Bars | Sensitivity
KINDS: dict[str, type[Table] | type[Series] | type[Bars] | type[Sensitivity]] = {
    "table": Table,
    "series": Series,
    "bars": Bars,
    "sensitivity": Sensitivity,
}


class Attachment(Piece):
    """One thing to show; ``payload`` is of its kind.

    Attributes:
        title: above it.
        kind: one of ``KINDS``.
        stage: that made it.
        note: a sentence below the title, or None.
        payload: a :class:`Table`, :class:`Series`, :class:`Bars` or :class:`Sensitivity` as plain data.
    """

    schema_: Literal["deploykit.attachment/1"] = Field(default="deploykit.attachment/1", alias="schema")
    title: Name
    kind: Literal["table", "series", "bars", "sensitivity"]
    stage: Name
    note: Text | None = None
    payload: dict[str, Any]

    def plain(self) -> dict[str, Any]:
        """JSON-able, as it stands in files."""
        return self.model_dump(mode="json", by_alias=True)

    def content(self) -> Content:
        """The payload as its kind."""
        return KINDS[self.kind].model_validate(self.payload)


def checked(fields: Any, where: str) -> Attachment:
    """The attachment that plain data says, its payload with every default filled in.

    Raises:
        BadInput: it does not fit its kind; names the first few places that do not.
    """
    try:
        found = Attachment.model_validate(fields)
        payload = found.content()
    except ValidationError as error:
        told = []
        for one in error.errors()[:3]:
            place = ".".join(str(part) for part in one["loc"]) or "(top)"
            told.append(f"{place[:120]}: {one['msg'].removeprefix('Value error, ')}")
        raise BadInput(f"{where} is no attachment: {' · '.join(told)}") from error
    return found.model_copy(update={"payload": payload.model_dump(mode="json", by_alias=True)})


def _made(kind: str, title: str, stage: str, note: str | None, payload: Mapping[str, Any]) -> Attachment:
    fields = {"title": title, "kind": kind, "stage": stage, "note": note, "payload": plain(dict(payload))}
    return checked(fields, f"{kind} {title!r}")


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
    return _made("table", title, stage, note, {"columns": full, "rows": [list(row) for row in rows]})


def series(
    title: str,
    stage: str,
    x: str | Mapping[str, Any],
    y: str | Mapping[str, Any],
    lines: Mapping[str, Sequence[tuple[float, float]]],
    note: str | None = None,
) -> Attachment:
    """A line chart.

    Args:
        title: above it.
        stage: that makes it.
        x: the horizontal axis: its label, or ``{label, unit, log}``.
        y: the vertical one.
        lines: name → points ``(x, y)``, at most 2000 a line; points that are not finite are left out.
        note: a sentence below the title.

    Raises:
        BadInput: it does not fit :class:`Series`.
    """
    axes = {name: {"label": one} if isinstance(one, str) else dict(one) for name, one in (("x", x), ("y", y))}
    drawn = [
        {"name": name, "points": [p for p in ([*plain([float(a), float(b)])] for a, b in points) if None not in p]}
        for name, points in lines.items()
    ]
    return _made("series", title, stage, note, {**axes, "lines": drawn})


def bars(
    title: str,
    stage: str,
    label: str,
    names: Sequence[str],
    groups: Mapping[str, Sequence[float | None]],
    unit: str | None = None,
    note: str | None = None,
) -> Attachment:
    """Grouped bars.

    Args:
        title: above them.
        stage: that makes them.
        label: what is measured, ``channels`` for instance.
        names: of the bars in each group, ``("before", "after")`` for instance.
        groups: name of the group → a value for each of ``names``, not negative, None where there is none.
        unit: of the values.
        note: a sentence below the title.

    Raises:
        BadInput: they do not fit :class:`Bars`.
    """
    rows = [
        {"name": name, "values": [None if one is None else float(one) for one in values]}
        for name, values in groups.items()
    ]
    return _made("bars", title, stage, note, {"label": label, "unit": unit, "names": list(names), "groups": rows})


def sensitivity(title: str, stage: str, analysis: Mapping[str, Any], note: str | None = None) -> Attachment:
    """An analysis with schema ``deploykit.sensitivity/1``, as ``quantize --analyze`` writes it.

    Raises:
        BadInput: it does not fit its schema.
    """
    return _made("sensitivity", title, stage, note, analysis)
