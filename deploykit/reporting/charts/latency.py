"""The distributions of latencies: one density per variant, all on one axis."""

from __future__ import annotations

import math

import numpy as np
from markupsafe import Markup

from deploykit.reporting import format as t
from deploykit.reporting.charts.svg import Scale, element, figure, latency_scale, polyline, shortened, text_width
from deploykit.reporting.schema import Report
from deploykit.stats.percentiles import percentile

FONT = 13.0
BINS = 220
TAIL = 0.995
BOLD = 1.12  # the pick is written so: wider than other names


def latency_chart(report: Report, samples: dict[str, np.ndarray], width: float, style: str) -> Markup | None:
    """The chart as SVG, fastest variant on top, or None where there are no raw samples.

    Each density is scaled to its own peak. The axis ends where 99.5 % of every variant's samples do; what lies beyond
    counts in the percentiles but is not drawn.
    """
    if not samples:
        return None
    narrow = width < 600
    names = sorted(samples, key=lambda name: float(np.median(samples[name])))
    gutter = 8.0 if narrow else min(210.0, BOLD * max(text_width(name, FONT) for name in names) + 22)
    numbers = 8.0 if narrow else 22 + max(text_width(_numbers(one), FONT) for one in samples.values())
    row, head, foot = (74.0, 8.0, 42.0) if narrow else (52.0, 6.0, 44.0)
    ends = [float(value) for one in samples.values() for value in np.quantile(one, (0.001, TAIL))]
    across = latency_scale(ends, gutter, width - numbers, pad=0.02)
    height = head + row * len(names) + foot
    floor = head + row * len(names)
    parts = _axis(across, head, floor, narrow)
    for i, name in enumerate(names):
        parts.append(_ridge(report, name, samples[name], across, head + row * (i + 1), row, narrow, width, numbers))
    description = "; ".join(f"{name}: {_numbers(samples[name])}" for name in names)
    return figure(width, height, "Latency distributions", description, parts, style)


def _numbers(samples: np.ndarray) -> str:
    return f"p50 {t.number(percentile(samples, 0.5))} · p99 {t.number(percentile(samples, 0.99))} ms"


def _axis(across: Scale, head: float, floor: float, narrow: bool) -> list[Markup]:
    parts = []
    for value in across.ticks(4 if narrow else 8):
        x = across(value)
        parts.append(element("line", x1=x, x2=x, y1=head, y2=floor + 5, class_="grid"))
        parts.append(element("text", f"{value:g}", x=x, y=floor + 19, class_="tick middle"))
    parts.append(element("line", x1=across.start, x2=across.end, y1=floor, y2=floor, class_="axis"))
    label = "latency, ms, log scale" if across.log else "latency, ms"
    parts.append(element("text", label, x=across.end, y=floor + 37, class_="label end"))
    return parts


def _ridge(
    report: Report,
    name: str,
    samples: np.ndarray,
    across: Scale,
    base: float,
    row: float,
    narrow: bool,
    width: float,
    numbers: float,
) -> Markup:
    tall = row - (30 if narrow else 12)
    shape = density(samples, across)
    step = (across.end - across.start) / (BINS - 1)
    outline = [(across.start + i * step, base - tall * float(value)) for i, value in enumerate(shape)]
    kept = [i for i, value in enumerate(shape) if value > 0.004]
    first, last = max(0, kept[0] - 1), min(BINS - 1, kept[-1] + 1)
    outline = [(outline[first][0], base), *outline[first : last + 1], (outline[last][0], base)]
    p50, p90, p99 = (percentile(samples, share) for share in (0.5, 0.9, 0.99))
    marks = [
        element("line", x1=across(value), x2=across(value), y1=base - tall * part, y2=base, class_=css)
        for value, part, css in ((p50, 1.0, "p50"), (p90, 0.42, "p90"), (p99, 0.42, "p99"))
        if value <= across.high
    ]
    if narrow:
        label = [
            element("text", shortened(name, FONT, width * 0.5), x=across.start, y=base - row + 16, class_="name"),
            element("text", _numbers(samples), x=width - 8, y=base - row + 16, class_="tick end"),
        ]
    else:
        label = [
            element(
                "text", shortened(name, FONT, across.start - 16), x=across.start - 14, y=base - 8, class_="name end"
            ),
            element("text", _numbers(samples), x=width - numbers + 14, y=base - 8, class_="tick"),
        ]
    variant = report.variant(name)
    kind = "pick" if report.pick and report.pick.name == name else ""
    kind = kind or (variant.status if variant and not variant.usable else "")
    kind = kind or ("baseline" if report.baseline == name else "other")
    line = element("line", x1=across.start, x2=across.end, y1=base, y2=base, class_="grid")
    return element("g", line, element("path", d=polyline(outline), class_="ridge"), *marks, *label, class_=kind)


def density(samples: np.ndarray, across: Scale) -> np.ndarray:
    """A kernel density at ``BINS`` places along the scale, its peak 1: [BINS].

    The bandwidth is Silverman's rule with the interquartile range (*Density Estimation*, 1986, eq. 3.31), in the
    scale's own transform, at least one bin and at most a twentieth of the axis.
    """
    ends = (math.log(across.low), math.log(across.high)) if across.log else (across.low, across.high)
    values = np.log(samples) if across.log else samples
    width = (ends[1] - ends[0]) / (BINS - 1)
    q25, q75 = np.quantile(values, (0.25, 0.75))
    spread = min(float(values.std()), float(q75 - q25) / 1.34) or float(values.std())
    bandwidth = min(max(0.9 * spread * values.size**-0.2, width), 0.05 * (ends[1] - ends[0]))
    counts, _ = np.histogram(values, bins=BINS, range=(ends[0] - width / 2, ends[1] + width / 2))
    reach = math.ceil(4 * bandwidth / width)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * width / bandwidth) ** 2)
    smooth = np.convolve(counts, kernel, mode="full")[reach : reach + BINS]
    return np.asarray(smooth / max(float(smooth.max()), 1e-300))
