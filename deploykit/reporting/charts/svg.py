"""SVG elements as escaped text."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

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
