"""Accuracy against latency, with the intervals of both."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from markupsafe import Markup

from deploykit.reporting import format as t
from deploykit.reporting.charts.svg import (
    Box,
    Scale,
    element,
    figure,
    latency_scale,
    place,
    polyline,
    ratio_scale,
    shortened,
    text_width,
)
from deploykit.reporting.pick import metric_of, primary_measurement
from deploykit.reporting.schema import Report, Variant

FONT = 13.0
FAR = 0.1
BOLD = 1.2  # how much wider the name of the pick is


@dataclass(frozen=True)
class Point:
    """One variant in the plot; ``x`` in milliseconds, ``y`` a ratio, each with its interval."""

    name: str
    kind: str
    x: tuple[float, float, float]
    y: tuple[float, float, float]


def points_of(report: Report) -> list[Point]:
    """The variants that have both a latency and a quality, the important ones first.

    A failed one far below all others is left out: the others would lie on each other.
    """
    found = []
    for variant in report.variants:
        latency, quality = primary_measurement(report, variant), variant.quality
        if latency is None or quality is None or variant.status == "skipped":
            continue
        p50, value = latency.p50_ms, quality.value
        x = (latency.p50_ms_low or p50, p50, latency.p50_ms_high or p50)
        y = (_or(quality.low, value), value, _or(quality.high, value))
        found.append(Point(variant.name, _kind(report, variant), x, y))
    floor = min((point.y[0] for point in found if point.kind != "failed"), default=0.0) - FAR
    found = [point for point in found if point.kind != "failed" or point.y[1] >= floor]
    order = ("pick", "baseline", "front", "other", "unsure", "failed")
    return sorted(found, key=lambda point: order.index(point.kind))


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _kind(report: Report, variant: Variant) -> str:
    if not variant.usable:
        return variant.status
    if report.pick and report.pick.name == variant.name:
        return "pick"
    if report.baseline == variant.name:
        return "baseline"
    return "front" if variant.name in report.pareto else "other"


def pareto_chart(report: Report, width: float, height: float, style: str) -> Markup | None:
    """The plot as SVG, or None where no variant has both numbers."""
    points = points_of(report)
    if not points:
        return None
    left, right, top, bottom = 62.0, width - 16, 14.0, height - 46
    across = latency_scale([value for point in points for value in point.x], left, right, pad=0.1)
    up = ratio_scale([value for point in points for value in point.y], bottom, top)
    front = _front(report, points, across, up)
    metric = metric_of(report)
    parts = _grid(across, up, metric, narrow=width < 600)
    if front:
        parts.append(element("path", d=polyline(front), class_="front-line"))
    parts += [_mark(point, metric, across, up) for point in reversed(points)]
    parts += _labels(points, across, up, (left + 2, top, right, bottom), _boxes(front))
    described = [f"{point.name}: {t.milliseconds(point.x[1])}, {metric} {t.percent(point.y[1])}" for point in points]
    return figure(width, height, f"{metric} against latency", "; ".join(described), parts, style)


def _grid(across: Scale, up: Scale, metric: str, *, narrow: bool) -> list[Markup]:
    left, right, bottom, top = across.start, across.end, up.start, up.end
    parts = []
    rises = up.ticks(5)
    step = rises[1] - rises[0] if len(rises) > 1 else 0.01
    decimals = 0 if step >= 0.0099 else 1 if step >= 0.00099 else 2
    for value in rises:
        y = up(value)
        parts.append(element("line", x1=left, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(element("text", f"{100 * value:.{decimals}f}", x=left - 9, y=y + 4, class_="tick end"))
    for value in across.ticks(4 if narrow else 8):
        x = across(value)
        parts.append(element("line", x1=x, x2=x, y1=bottom, y2=bottom + 5, class_="axis"))
        parts.append(element("text", f"{value:g}", x=x, y=bottom + 19, class_="tick middle"))
    parts.append(element("line", x1=left, x2=right, y1=bottom, y2=bottom, class_="axis"))
    log = ", log scale" if across.log else ""
    parts.append(element("text", f"latency p50, ms{log} (left is faster)", x=right, y=bottom + 38, class_="label end"))
    middle = (top + bottom) / 2
    turn = f"rotate(-90 14 {middle:.0f})"
    parts.append(element("text", f"{metric}, %", x=14.0, y=middle, transform=turn, class_="label middle"))
    return parts


def _front(report: Report, points: list[Point], across: Scale, up: Scale) -> list[tuple[float, float]]:
    """The steps along the Pareto set, in pixels: what is above and left of them, nobody offers."""
    front = sorted((point.x[1], point.y[1]) for point in points if point.name in report.pareto)
    if len(front) < 2:
        return []
    path = [(across(front[0][0]), up.start)]
    for (x, y), (_, before) in zip(front, [(0.0, up.low), *front], strict=False):
        path += [(across(x), up(before)), (across(x), up(y))]
    return [*path, (across.end, up(front[-1][1]))]


def _boxes(path: list[tuple[float, float]]) -> list[Box]:
    """The level pieces of a path as thin boxes that labels keep off."""
    return [(a[0], a[1] - 2, b[0], a[1] + 2) for a, b in itertools.pairwise(path) if a[1] == b[1] and a[0] < b[0]]


def _mark(point: Point, metric: str, across: Scale, up: Scale) -> Markup:
    x, y = across(point.x[1]), up(point.y[1])
    horizontal = element("line", x1=across(point.x[0]), x2=across(point.x[2]), y1=y, y2=y, class_="whisker")
    vertical = element("line", x1=x, x2=x, y1=up(point.y[0]), y2=up(point.y[2]), class_="whisker")
    if point.kind == "baseline":
        shape = element("rect", x=x - 5.5, y=y - 5.5, width=11, height=11, rx=1.5, class_="dot")
    elif point.kind == "failed":
        shape = element("path", d=f"M{x - 5:.1f},{y - 5:.1f}l10,10m0,-10l-10,10", class_="cross")
    else:
        shape = element("circle", cx=x, cy=y, r=7.5 if point.kind == "pick" else 5.0, class_="dot")
    hint = element("title", f"{point.name}: {t.milliseconds(point.x[1])}, {metric} {t.percent(point.y[1])}")
    return element("g", hint, vertical, horizontal, shape, class_=f"point {point.kind}")


def _labels(points: list[Point], across: Scale, up: Scale, bounds: Box, obstacles: list[Box]) -> list[Markup]:
    """Names beside their points; one without room is left to the tooltip and the table."""
    names = [shortened(point.name, FONT, 200) for point in points]
    spots = place(
        [(across(point.x[1]), up(point.y[1])) for point in points],
        [
            text_width(name, FONT) * (BOLD if point.kind == "pick" else 1)
            for name, point in zip(names, points, strict=True)
        ],
        FONT + 3,
        bounds,
        obstacles,
        gap=11,
    )
    return [
        element("text", name, x=spot[0], y=spot[1] + 4.5, class_=f"name {point.kind}")
        for point, name, spot in zip(points, names, spots, strict=True)
        if spot is not None
    ]
