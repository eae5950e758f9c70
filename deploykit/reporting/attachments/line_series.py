"""``series``: lines over a common axis, learning curves and the like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from markupsafe import Markup
from pydantic import Field, model_validator

from deploykit.reporting import format as t
from deploykit.reporting.attachments.kinds import Attachment, Content, Name, Number, Piece, made
from deploykit.reporting.charts.svg import WIDTHS, Scale, color, element, figure, polyline
from deploykit.reporting.read import plain

HEIGHT = 320.0
FEW_POINTS = 40


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


class Series(Content):
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

    def shown(self, title: str) -> dict[str, object]:
        """The chart in both widths, and the names of its lines."""
        return {"kind": "chart", "charts": series_charts(self, title), "keys": [line.name for line in self.lines]}


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
    return made("series", title, stage, note, {**axes, "lines": drawn})


def series_charts(drawn: Series, label: str) -> list[Markup]:
    """:func:`series_chart` for wide and for narrow screens."""
    return [series_chart(drawn, width, style, label) for width, style in WIDTHS]


def series_chart(drawn: Series, width: float, style: str, label: str) -> Markup:
    """The chart as SVG.

    Args:
        drawn: axes and lines.
        width: in pixels.
        style: ``wide`` or ``narrow``.
        label: for screen readers.
    """
    lines = drawn.lines
    points = [point for line in lines for point in line.points]
    across = value_scale([x for x, _ in points], 62.0, width - 16, log=drawn.x.log, pad=0.0)
    up = value_scale([y for _, y in points], HEIGHT - 46, 12.0, log=drawn.y.log, pad=0.05)
    parts = _grid(across, up, drawn, width)
    parts += [_line(line.points, number, across, up) for number, line in enumerate(lines) if line.points]
    description = "; ".join(_told(line) for line in lines)
    return figure(width, HEIGHT, label, description, parts, style)


def value_scale(values: list[float], start: float, end: float, *, log: bool, pad: float) -> Scale:
    """A scale that holds all values, with ``pad`` of its length free at both ends; never of length zero."""
    low, high = (min(values), max(values)) if values else (1.0, 2.0)
    if log:
        edge = max((high / low) ** pad, 1.05)
        return Scale(low / edge, high * edge, start, end, log=True)
    least = max(1e-12, 1e-6 * max(abs(low), abs(high)))
    room = max(pad * (high - low), 0.0 if high - low > least else least)
    return Scale(low - room, high + room, start, end)


def _grid(across: Scale, up: Scale, drawn: Series, width: float) -> list[Markup]:
    left, right, bottom, top = across.start, across.end, up.start, up.end
    parts = []
    for value in up.ticks(5):
        y = up(value)
        parts.append(element("line", x1=left, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(element("text", f"{value:g}", x=left - 9, y=y + 4, class_="tick end"))
    for value in across.ticks(4 if width < 600 else 8):
        x = across(value)
        parts.append(element("line", x1=x, x2=x, y1=bottom, y2=bottom + 5, class_="axis"))
        parts.append(element("text", f"{value:g}", x=x, y=bottom + 19, class_="tick middle"))
    parts.append(element("line", x1=left, x2=right, y1=bottom, y2=bottom, class_="axis"))
    parts.append(element("text", drawn.x.shown, x=right, y=bottom + 38, class_="label end"))
    middle = (top + bottom) / 2
    turn = f"rotate(-90 14 {middle:.0f})"
    parts.append(element("text", drawn.y.shown, x=14.0, y=middle, transform=turn, class_="label middle"))
    return parts


def _line(points: list[list[float]], number: int, across: Scale, up: Scale) -> Markup:
    pixels = [(across(x), up(y)) for x, y in points]
    parts = [element("path", d=polyline(pixels), class_="curve")] if len(pixels) > 1 else []
    if len(pixels) <= FEW_POINTS:
        parts += [element("circle", cx=x, cy=y, r=2.6, class_="knot") for x, y in pixels]
    return element("g", *parts, class_=color(number))


def _told(line: Line) -> str:
    if not line.points:
        return f"{line.name}: no points"
    (first_x, first), (last_x, last) = line.points[0], line.points[-1]
    return f"{line.name}: {t.number(first)} at {first_x:g}, {t.number(last)} at {last_x:g}"
