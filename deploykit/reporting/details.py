"""What the page shows beneath its tables: reliability, confusions, flipped images, robustness, sweeps."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from markupsafe import Markup

from deploykit.reporting import format as t
from deploykit.reporting.charts.series import series_chart

WIDTHS = ((1040.0, "wide"), (388.0, "narrow"))
PICTURE_BYTES = 16_384
PICTURES_BYTES = 1_000_000
"""Of all thumbnails on a page together; ten variants with 24 of 2 kB are half of it."""
LINES = 12


def reliability_charts(report: dict[str, Any]) -> list[Markup]:
    """Accuracy over confidence of up to twelve variants, beside the diagonal that perfect confidence would give."""
    lines = [
        {
            "name": one["name"],
            "points": [(bin["confidence"], bin["accuracy"]) for bin in one["accuracy"]["reliability"]],
        }
        for one in report["variants"]
        if one["accuracy"] and one["accuracy"]["reliability"]
    ][: LINES - 1]
    if not lines:
        return []
    lines.append({"name": "as sure as right", "points": [(0.0, 0.0), (1.0, 1.0)]})
    axes = {
        "x": {"label": "confidence", "unit": None, "log": False},
        "y": {"label": "accuracy", "unit": None, "log": False},
    }
    return _charts(lines, axes, "Reliability: accuracy over confidence")


def sweep_charts(report: dict[str, Any], sweep: str) -> list[Markup]:
    """Throughput over batch size or threads, one line per variant."""
    lines = [
        {"name": one["name"], "points": points} for one in report["variants"] if len(points := _swept(one, sweep)) > 1
    ][:LINES]
    if not lines:
        return []
    x = {"label": {"batch": "batch size", "threads": "threads"}[sweep], "unit": None, "log": True}
    y = {"label": "images per second", "unit": None, "log": False}
    return _charts(lines, {"x": x, "y": y}, f"Throughput over {x['label']}")


def _swept(variant: dict[str, Any], sweep: str) -> list[tuple[float, float]]:
    key = {"batch": "batch", "threads": "threads"}[sweep]
    found = [one for one in variant["measurements"] if one["sweep"] == sweep and one["throughput_per_s"] is not None]
    return sorted((float(one[key]), float(one["throughput_per_s"])) for one in found if one[key])


def _charts(lines: list[dict[str, Any]], axes: dict[str, Any], label: str) -> list[Markup]:
    return [series_chart({"lines": lines, **axes}, width, style, label) for width, style in WIDTHS]


def line_names(report: dict[str, Any], of: str) -> list[str]:
    """The names of the lines of :func:`reliability_charts` or :func:`sweep_charts`, in their order."""
    if of == "reliability":
        found = [v["name"] for v in report["variants"] if v["accuracy"] and v["accuracy"]["reliability"]]
        return [*found[: LINES - 1], "as sure as right"] if found else []
    return [v["name"] for v in report["variants"] if len(_swept(v, of)) > 1][:LINES]


def robustness_rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per corruption and strength, with a cell for each variant of :func:`robust_names`: top-1 and the drop."""
    variants = _robust(report)
    by_way: dict[tuple[str, int], dict[str, dict[str, Any]]] = {}
    for variant in variants:
        for one in variant["accuracy"]["robustness"]:
            by_way.setdefault((one["corruption"], one["strength"]), {})[variant["name"]] = one
    rows = []
    for (kind, strength), cells in by_way.items():
        shown = []
        for variant in variants:
            one = cells.get(variant["name"])
            drop = None if one is None or one["drop_pt"] is None else one["drop_pt"]
            shown.append(
                {
                    "top1": t.NONE if one is None else t.percent(one["top1"]),
                    "drop": "" if drop is None else t.points(drop),
                    "interval": "" if drop is None else t.drop_interval(one),
                    "worse": bool(one and (one["drop_pt_low"] or 0) > 0),
                }
            )
        rows.append({"corruption": kind, "strength": strength, "cells": shown})
    return rows


def robust_names(report: dict[str, Any]) -> list[str]:
    """The variants that were evaluated on corrupted images."""
    return [one["name"] for one in _robust(report)]


def _robust(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in report["variants"] if one["accuracy"] and one["accuracy"]["robustness"]]


def confusions(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Variant → its matrix as rows of (count, share of the label's images), or the pairs mistaken most often."""
    found: dict[str, dict[str, Any]] = {}
    for variant in report["variants"]:
        accuracy = variant["accuracy"]
        if not accuracy or not (accuracy["confusion"] or accuracy["confused"]):
            continue
        matrix, names = accuracy["confusion"] or [], [one["name"] for one in accuracy["per_class"] or ()]
        whole = bool(matrix) and len(names) == len(matrix)
        rows = [[(n, n / max(1, sum(row))) for n in row] for row in matrix] if whole else []
        found[variant["name"]] = {
            "names": names,
            "rows": list(zip(names, rows, strict=True)) if whole else [],
            "pairs": accuracy["confused"],
        }
    return found


def flipped(report: dict[str, Any], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Variant → its flips with ``source``, the thumbnail as a data URI, or None where there is no room or no picture."""
    left, known = PICTURES_BYTES, dict[str, str | None]()
    found: dict[str, list[dict[str, Any]]] = {}
    for variant in report["variants"]:
        for flip in (variant["accuracy"] or {}).get("flips") or ():
            name = flip["picture"]
            if name is not None and name not in known:
                known[name] = _source(folder / name, folder)
            source = known.get(name) if name else None
            left -= len(source or "")
            shown = {**flip, "source": source if left > 0 else None, "sure": t.percent(flip["confidence"], 0)}
            found.setdefault(variant["name"], []).append(shown)
    return found


def flip_counts(report: dict[str, Any]) -> dict[str, str]:
    """Variant → how many of its flips are shown: ``3 images``, or ``the 24 surest of 61 images``."""
    found = {}
    for variant in report["variants"]:
        accuracy = variant["accuracy"]
        if accuracy and (shown := len(accuracy["flips"] or ())):
            known = accuracy["negative_flips"] is not None
            total = max(shown, round(accuracy["negative_flips"] * accuracy["n"])) if known else shown
            word = "image" if total == 1 else "images"
            found[variant["name"]] = f"{shown} {word}" if total == shown else f"the {shown} surest of {total} {word}"
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
