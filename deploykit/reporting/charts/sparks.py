"""Small drawings inside table cells: a bar on a logarithmic scale, and a histogram with the range that is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from deploykit.reporting.charts.svg import element, figure

WIDTH, HEIGHT = 180.0, 20.0
DECADES = 5.0
HISTOGRAM = (180.0, 34.0)


def log_bar(value: float, largest: float, label: str) -> Markup:
    """A bar for ``value`` whose full width is ``largest`` and which vanishes ``DECADES`` powers of ten below it."""
    share = 0.0
    if value > 0 and largest > 0:
        share = min(1.0, max(0.0, 1 + math.log10(value / largest) / DECADES))
    bars = [element("rect", x=0, y=4, width=WIDTH, height=12, rx=2, class_="track")]
    if share > 0:
        bars.append(element("rect", x=0, y=4, width=max(2.0, share * WIDTH), height=12, rx=2, class_="fill"))
    return figure(WIDTH, HEIGHT, label, f"{value:.3g} of {largest:.3g}, logarithmic", bars, "spark")


def histogram(counts: Sequence[int], low: float, high: float, kept: tuple[float, float], label: str) -> Markup:
    """A histogram between ``low`` and ``high``, heights logarithmic; what lies outside ``kept`` is marked as clipped."""
    width, height = HISTOGRAM
    step = width / max(1, len(counts))
    top = math.log1p(max(counts, default=0)) or 1.0
    span = max(high - low, 1e-30)
    bars = []
    for number, count in enumerate(counts):
        if count:
            middle = low + (number + 0.5) / len(counts) * span
            tall = max(1.0, math.log1p(count) / top * (height - 2))
            inside = kept[0] <= middle <= kept[1]
            bars.append(
                element(
                    "rect",
                    x=number * step,
                    y=height - tall,
                    width=step * 0.9,
                    height=tall,
                    class_="fill" if inside else "clipped",
                )
            )
    described = f"values from {low:.3g} to {high:.3g}, kept from {kept[0]:.3g} to {kept[1]:.3g}"
    return figure(width, height, label, described, bars, "spark")
