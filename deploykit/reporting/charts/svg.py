"""What all charts are drawn with: SVG elements as escaped text, scales and their ticks, labels that cover nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

COLORS = 6
"""Of lines and bars; the next ones repeat them dashed."""
WIDTHS = ((1040.0, "wide"), (388.0, "narrow"))
"""Of a chart that stands in a page, in pixels, each with its style."""
CHARACTER = 0.56
"""Mean width of a character of the system fonts, in font sizes."""


def element(tag: str, *content: str, **attributes: object) -> Markup:
    """One element; ``class_`` becomes ``class``, ``text_anchor`` becomes ``text-anchor``, numbers are rounded.

    Content that is plain ``str`` is escaped, Markup is not.
    """
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_short(value))}"' for key, value in attributes.items()
    )
    inside = Markup("").join(escape(one) for one in content)
    return Markup(f"<{tag}{shown}>{inside}</{tag}>") if content else Markup(f"<{tag}{shown}/>")


def _short(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def polyline(points: Iterable[tuple[float, float]]) -> str:
    """The ``d`` of a path through points."""
    return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points)


def text_width(text: str, size: float) -> float:
    """Estimated width of a text in pixels."""
    return len(text) * size * CHARACTER


def shortened(text: str, size: float, width: float) -> str:
    """The text, or as much of it as fits into ``width`` pixels with an ellipsis."""
    room = int(width / (size * CHARACTER))
    return text if len(text) <= room else text[: max(1, room - 1)] + "…"


def figure(width: float, height: float, label: str, description: str, content: Iterable[str], style: str) -> Markup:
    """A whole drawing that scales with the page, with a name and a description for screen readers."""
    return element(
        "svg",
        element("title", label),
        element("desc", description),
        *content,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        class_=f"chart {style}",
        xmlns="http://www.w3.org/2000/svg",
    )


LOG_FROM = 6.0
"""Values that spread over at least this ratio are drawn on a logarithmic scale."""


@dataclass(frozen=True)
class Scale:
    """A mapping of values to pixels.

    Attributes:
        low: value at ``start``.
        high: value at ``end``.
        start: pixel of ``low``.
        end: pixel of ``high``.
        log: logarithmic.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value; outside values are clamped to the ends."""
        value = min(max(value, self.low), self.high)
        low, high, at = (math.log(one) if self.log else one for one in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self, wanted: int) -> list[float]:
        """Round values between low and high, about ``wanted`` of them."""
        return log_ticks(self.low, self.high, wanted) if self.log else linear_ticks(self.low, self.high, wanted)


def linear_ticks(low: float, high: float, wanted: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float, wanted: int) -> list[float]:
    """Values 1, 2, 5 times powers of ten, thinned to powers of ten where these are too many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [round(f * 10.0**p, 12) for p in powers for f in factors if low <= f * 10.0**p <= high]
        if len(found) <= wanted + 1:
            return found
    return found[:: math.ceil(len(found) / wanted)]


def latency_scale(values: list[float], start: float, end: float, pad: float = 0.06) -> Scale:
    """A scale for positive times: logarithmic where they spread widely."""
    low, high = min(values), max(values)
    if high / low >= LOG_FROM:
        edge = (high / low) ** pad
        return Scale(low / edge, high * edge, start, end, log=True)
    span = max(high - low, 0.1 * high)
    return Scale(max(0.0, low - pad * span), high + pad * span, start, end)


def ratio_scale(values: list[float], start: float, end: float) -> Scale:
    """A scale for ratios in [0, 1], at least one point high and never beyond the ends."""
    low, high = min(values), max(values)
    span = max(high - low, 0.01)
    return Scale(max(0.0, low - 0.12 * span), min(1.0, high + 0.12 * span), start, end)


Box = tuple[float, float, float, float]


def overlaps(a: Box, b: Box) -> bool:
    """Whether two boxes (left, top, right, bottom) share a point."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def place(
    points: Sequence[tuple[float, float]],
    widths: Sequence[float],
    height: float,
    bounds: Box,
    obstacles: Sequence[Box] = (),
    gap: float = 9,
) -> list[tuple[float, float] | None]:
    """Find a free place near each point, first come first served.

    Args:
        points: pixel of each point, the most important first.
        widths: of each label.
        height: of a label.
        bounds: labels stay inside.
        obstacles: more boxes that labels keep off.
        gap: between point and label.

    Returns:
        For each point the left end of the label's middle line, or None where there is no room.
    """
    taken = [(x - gap / 2, y - gap / 2, x + gap / 2, y + gap / 2) for x, y in points] + list(obstacles)
    found: list[tuple[float, float] | None] = []
    for (x, y), width in zip(points, widths, strict=True):
        spot = None
        for left, middle in _candidates(x, y, width, height, gap):
            box = (left, middle - height / 2, left + width, middle + height / 2)
            inside = bounds[0] <= box[0] and box[2] <= bounds[2] and bounds[1] <= box[1] and box[3] <= bounds[3]
            if inside and not any(overlaps(box, other) for other in taken):
                spot = (left, middle)
                taken.append(box)
                break
        found.append(spot)
    return found


def _candidates(x: float, y: float, width: float, height: float, gap: float) -> list[tuple[float, float]]:
    beside = [(x + gap, y), (x - gap - width, y)]
    around = []
    for step in (1, 1.7, 2.4, 3.2):
        shift = step * (height * 0.55 + gap * 0.5)
        for sign in (-1, 1):
            around += [(x + gap * 0.8, y + sign * shift), (x - width - gap * 0.8, y + sign * shift)]
            around.append((x - width / 2, y + sign * (shift + gap * 0.4)))
    return beside + around


def color(number: int) -> str:
    """The classes of line or bar ``number``."""
    return f"c{number % COLORS}" + (" again" if number >= COLORS else "")
