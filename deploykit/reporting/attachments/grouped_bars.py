"""``bars``: grouped bars from zero, what a layer had before and after, one row each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Self

from markupsafe import Markup
from pydantic import Field, model_validator

from deploykit.reporting import format as t
from deploykit.reporting.attachments.kinds import Attachment, Content, Name, Number, Piece, made
from deploykit.reporting.charts.svg import WIDTHS, color, element, figure, shortened, text_width

FONT = 12.0
BAR = 8.0
GAP = 10.0
DESCRIBED = 40


class Group(Piece):
    """What is compared in one place: a value for each name of the bars, null where there is none."""

    name: Name
    values: list[Annotated[Number, Field(ge=0)] | None]


class Bars(Content):
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

    def shown(self, title: str) -> dict[str, object]:
        """The chart in both widths, and the names of the bars."""
        charts = [bars_chart(self, width, style, title) for width, style in WIDTHS]
        return {"kind": "chart", "charts": charts, "keys": self.names}


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
    return made("bars", title, stage, note, {"label": label, "unit": unit, "names": list(names), "groups": rows})


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
