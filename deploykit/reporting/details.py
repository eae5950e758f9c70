"""What the page shows beneath its tables: reliability, confusions, flipped images, robustness, sweeps."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from deploykit.reporting.attachments.line_series import Axis, Line, Series, series_charts
from deploykit.reporting.quality import Confused, Flip, Robustness
from deploykit.reporting.schema import Report, Variant

PICTURE_BYTES = 16_384
PICTURES_BYTES = 1_000_000
"""Of all thumbnails on a page together; ten variants with 24 of 2 kB are half of it."""
LINES = 12


def reliability_charts(report: Report) -> list[Markup]:
    """Accuracy over confidence of up to twelve variants, beside the diagonal that perfect confidence would give."""
    lines = [
        Line(name=one.name, points=[[bin.confidence, bin.accuracy] for bin in one.accuracy.reliability])
        for one in report.variants
        if one.accuracy and one.accuracy.reliability
    ][: LINES - 1]
    if not lines:
        return []
    lines.append(Line(name="as sure as right", points=[[0.0, 0.0], [1.0, 1.0]]))
    drawn = Series(x=Axis(label="confidence"), y=Axis(label="accuracy"), lines=lines)
    return series_charts(drawn, "Reliability: accuracy over confidence")


def sweep_charts(report: Report, sweep: str) -> list[Markup]:
    """Throughput over batch size or threads, one line per variant."""
    lines = [Line(name=one.name, points=points) for one in report.variants if len(points := _swept(one, sweep)) > 1][
        :LINES
    ]
    if not lines:
        return []
    x = Axis(label={"batch": "batch size", "threads": "threads"}[sweep], log=True)
    return series_charts(Series(x=x, y=Axis(label="images per second"), lines=lines), f"Throughput over {x.label}")


def _swept(variant: Variant, sweep: str) -> list[list[float]]:
    found = [one for one in variant.measurements if one.sweep == sweep and one.throughput_per_s is not None]
    sizes = [one.batch if sweep == "batch" else one.threads for one in found]
    return sorted(
        [float(size), float(one.throughput_per_s or 0)] for size, one in zip(sizes, found, strict=True) if size
    )


def line_names(report: Report, of: str) -> list[str]:
    """The names of the lines of :func:`reliability_charts` or :func:`sweep_charts`, in their order."""
    if of == "reliability":
        found = [v.name for v in report.variants if v.accuracy and v.accuracy.reliability]
        return [*found[: LINES - 1], "as sure as right"] if found else []
    return [v.name for v in report.variants if len(_swept(v, of)) > 1][:LINES]


@dataclass(frozen=True)
class Corrupted:
    """A row of the table of corrupted images: one cell per variant of :func:`robust_names`, None where it has none."""

    corruption: str
    strength: int
    cells: list[Robustness | None]


def robustness_rows(report: Report) -> list[Corrupted]:
    """One row per corruption and strength."""
    found = _robust(report)
    ways = dict.fromkeys((one.corruption, one.strength) for own in found.values() for one in own)
    by_way = [{(one.corruption, one.strength): one for one in own} for own in found.values()]
    return [Corrupted(*way, [own.get(way) for own in by_way]) for way in ways]


def robust_names(report: Report) -> list[str]:
    """The variants that were evaluated on corrupted images."""
    return list(_robust(report))


def _robust(report: Report) -> dict[str, list[Robustness]]:
    return {one.name: one.accuracy.robustness for one in report.variants if one.accuracy and one.accuracy.robustness}


@dataclass(frozen=True)
class Confusion:
    """Who is taken for whom.

    Attributes:
        names: of the classes.
        rows: of the matrix, the class's name and for each answer count and share of the class's images; empty where
            there is no matrix.
        pairs: mistaken most often.
    """

    names: list[str]
    rows: list[tuple[str, list[tuple[int, float]]]]
    pairs: list[Confused]


def confusions(report: Report) -> dict[str, Confusion]:
    """Variant → who is taken for whom."""
    found: dict[str, Confusion] = {}
    for variant in report.variants:
        accuracy = variant.accuracy
        if not accuracy or not (accuracy.confusion or accuracy.confused):
            continue
        matrix, names = accuracy.confusion or [], [one.name for one in accuracy.per_class or ()]
        whole = bool(matrix) and len(names) == len(matrix)
        rows = [[(n, n / max(1, sum(row))) for n in row] for row in matrix] if whole else []
        found[variant.name] = Confusion(names, list(zip(names, rows, strict=True)) if whole else [], accuracy.confused)
    return found


def flipped(report: Report, folder: Path) -> dict[str, list[tuple[Flip, str | None]]]:
    """Variant → its flips, each with its thumbnail as a data URI, None where there is no room or no picture."""
    left, known = PICTURES_BYTES, dict[str, str | None]()
    found: dict[str, list[tuple[Flip, str | None]]] = {}
    for variant in report.variants:
        for flip in (variant.accuracy.flips if variant.accuracy else None) or ():
            name = flip.picture
            if name is not None and name not in known:
                known[name] = _source(folder / name, folder)
            source = known.get(name) if name else None
            left -= len(source or "")
            found.setdefault(variant.name, []).append((flip, source if left > 0 else None))
    return found


def flip_counts(report: Report) -> dict[str, str]:
    """Variant → how many of its flips are shown: ``3 images``, or ``the 24 surest of 61 images``."""
    found = {}
    for variant in report.variants:
        accuracy = variant.accuracy
        if accuracy and (shown := len(accuracy.flips or ())):
            total = max(shown, round((accuracy.negative_flips or 0.0) * accuracy.n))
            word = "image" if total == 1 else "images"
            found[variant.name] = f"{shown} {word}" if total == shown else f"the {shown} surest of {total} {word}"
    return found


def _source(path: Path, folder: Path) -> str | None:
    """A JPEG inside ``folder`` as a data URI; None for what is none, is too large, or lies elsewhere behind a link."""
    try:
        real = path.resolve()
        if not real.is_relative_to(folder.resolve()) or not real.is_file() or real.stat().st_size > PICTURE_BYTES:
            return None
        content = real.read_bytes()
    except OSError:
        return None
    return "data:image/jpeg;base64," + base64.b64encode(content).decode() if content[:3] == b"\xff\xd8\xff" else None
