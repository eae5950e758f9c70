"""Speed-ups over several reports: one line per variant, broken where the machine changes."""

from __future__ import annotations

from markupsafe import Markup

from deploykit.reporting import format as t
from deploykit.reporting.charts.svg import Scale, color, element, figure, latency_scale, polyline
from deploykit.reporting.compare import Comparison, Line, Point, Ratio, Run

HEIGHT, LEFT, FOOT, HEAD = 350.0, 56.0, 62.0, 14.0


def drawn(comparison: Comparison) -> list[Line]:
    """The variants that have a ratio of their own in at least one run; the reference is the line at 1."""
    return [
        one
        for one in comparison.variants
        if one.name != comparison.reference and any(_ratio(point) for point in one.points)
    ]


def trend_chart(comparison: Comparison, width: float, style: str) -> Markup | None:
    """The chart as SVG, or None where nothing was timed."""
    lines, runs = drawn(comparison), comparison.runs
    if not lines:
        return None
    ends = [1.0]
    for one in lines:
        for point in one.points:
            ratio = _ratio(point)
            ends += [one for one in (ratio.estimate, ratio.low, ratio.high) if one is not None] if ratio else []
    up = latency_scale(ends, HEIGHT - FOOT, HEAD)
    step = (width - LEFT - 30) / len(runs)
    across = [LEFT + step * (i + 0.5) for i in range(len(runs))]
    parts = _frame(comparison, up, across, width)
    for number, one in enumerate(lines):
        parts.append(_line(one, number, len(lines), up, across, runs, step))
    told = "; ".join(
        f"{one.name}: "
        + ", ".join(t.ratio(ratio.estimate if (ratio := _ratio(point)) else None) for point in one.points)
        for one in lines
    )
    return figure(width, HEIGHT, f"Speed-up over {comparison.reference} by run", told, parts, style)


def _ratio(point: Point | None) -> Ratio | None:
    return point.speedup if point else None


def _frame(comparison: Comparison, up: Scale, across: list[float], width: float) -> list[Markup]:
    bottom, right = HEIGHT - FOOT, width - 16
    parts = []
    for value in up.ticks(6):
        y = up(value)
        parts.append(element("line", x1=LEFT, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(element("text", f"{value:g}×", x=LEFT - 9, y=y + 4, class_="tick end"))
    one = up(1.0)
    parts.append(element("line", x1=LEFT, x2=right, y1=one, y2=one, class_="axis"))
    every = max(1, -(-len(across) // (6 if width < 600 else 10)))
    for i, x in enumerate(across):
        if i % every == 0:
            parts.append(element("text", str(i + 1), x=x, y=bottom + 19, class_="tick middle"))
            if width >= 600:
                day = comparison.runs[i].created[:10]
                parts.append(element("text", day, x=x, y=bottom + 34, class_="tick middle"))
    label = f"run, the oldest first; the line at 1× is {comparison.reference}"
    parts.append(element("text", label, x=right, y=bottom + 54, class_="label end"))
    return parts


def _line(
    one: Line,
    number: int,
    lines: int,
    up: Scale,
    across: list[float],
    runs: list[Run],
    step: float,
) -> Markup:
    """Points side by side within a run, so that whiskers do not cover each other."""
    shift = (number - (lines - 1) / 2) * min(9.0, 0.6 * step / lines)
    parts, stretch, machine = list[Markup](), list[tuple[float, float]](), None
    for x, point, run in zip(across, one.points, runs, strict=True):
        ratio = _ratio(point)
        if ratio is None or run.machine != machine:
            parts += _path(stretch)
            stretch = []
        machine = run.machine
        if ratio is None:
            continue
        at, y = x + shift, up(ratio.estimate)
        stretch.append((at, y))
        if ratio.low is not None and ratio.high is not None:
            ends = {"y1": up(ratio.low), "y2": up(ratio.high)}
            parts.append(element("line", x1=at, x2=at, **ends, class_="curve"))
        parts.append(element("circle", cx=at, cy=y, r=3.6, class_="knot"))
    return element("g", *parts, *_path(stretch), class_=color(number))


def _path(points: list[tuple[float, float]]) -> list[Markup]:
    return [element("path", d=polyline(points), class_="curve")] if len(points) > 1 else []
