"""Labels that stand beside their points without covering anything."""

from __future__ import annotations

from collections.abc import Sequence

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
