"""Grouped horizontal bars from zero: what a layer had before and after, one row each."""

from __future__ import annotations

from markupsafe import Markup

from deploykit.reporting import format as t
from deploykit.reporting.attachments.kinds import Bars
from deploykit.reporting.charts.series import color
from deploykit.reporting.charts.svg import element, figure, shortened, text_width

FONT = 12.0
BAR = 8.0
GAP = 10.0
DESCRIBED = 40


def bars_chart(drawn: Bars, width: float, style: str, label: str) -> Markup:
    """The chart as SVG.

    Args:
        drawn: groups of bars.
        width: in pixels.
        style: ``wide`` or ``narrow``.
        label: for screen readers.
    """
    groups, names = drawn.groups, drawn.names
    numbers = [_numbers(group.values) for group in groups]
    gutter = min(0.38 * width, max([40.0, *(text_width(group.name, FONT) + 14 for group in groups)]))
    reserved = min(0.34 * width, max([40.0, *(text_width(one, FONT) + 14 for one in numbers)]))
    most = max([value for group in groups for value in group.values if value is not None], default=0.0) or 1.0
    long = width - gutter - reserved
    row = len(names) * BAR + GAP
    parts = []
    for place, (group, told) in enumerate(zip(groups, numbers, strict=True)):
        top = place * row + GAP / 2
        middle = top + len(names) * BAR / 2 + 4
        bars = [
            element(
                "rect", x=gutter, y=top + number * BAR, width=max(1.0, value / most * long), height=BAR - 1,
                class_=f"bar {color(number)}",
            )
            for number, value in enumerate(group.values)
            if value is not None
        ]  # fmt: skip
        name = shortened(group.name, FONT, gutter - 12)
        hint = element("title", f"{group.name}: {told}")
        numbers_shown = shortened(told, FONT, reserved - 8)
        parts.append(
            element(
                "g",
                hint,
                element("text", name, x=gutter - 10, y=middle, class_="label end"),
                *bars,
                element("text", numbers_shown, x=width - reserved + 10, y=middle, class_="tick"),
            )
        )
    unit = f", {drawn.unit}" if drawn.unit else ""
    described = "; ".join(f"{group.name}: {told}" for group, told in zip(groups[:DESCRIBED], numbers, strict=False))
    return figure(width, len(groups) * row + GAP, label, f"{drawn.label}{unit}: {described}", parts, style)


def _numbers(values: list[float | None]) -> str:
    """``64 → 32`` for a pair, the values with commas else."""
    texts = [t.NONE if value is None else _short(value) for value in values]
    return (" → " if len(texts) == 2 else ", ").join(texts)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else t.number(value)
