"""The report as one self-contained page: no network, no script, readable in light, dark and print."""

from __future__ import annotations

import html
from pathlib import Path

from deploykit.reporting import details
from deploykit.reporting import format as t
from deploykit.reporting import headline as heads
from deploykit.reporting import rows as view
from deploykit.reporting.attachments.files import shown as shown_attachments
from deploykit.reporting.charts.latency import latency_chart
from deploykit.reporting.charts.pareto import pareto_chart, points_of
from deploykit.reporting.pages import render
from deploykit.reporting.pick import primary
from deploykit.reporting.read import primary_samples
from deploykit.reporting.rows import Row
from deploykit.reporting.schema import Report

CLASSES_SHOWN = 100


def to_html(report: Report, folder: Path) -> str:
    """The page of a checked report.

    Args:
        report: checked.
        folder: what the report's ``samples_file`` are relative to.
    """
    return render("report.html", **_context(report, folder))


def framed(report: Report, folder: Path | None) -> str:
    """The page inside a notebook's cell: a frame of its own, so that neither's style reaches the other."""
    page = html.escape(to_html(report, folder or Path()))
    return f'<iframe srcdoc="{page}" style="width: 100%; height: 40em; border: 1px solid #ccc"></iframe>'


def _context(report: Report, folder: Path) -> dict[str, object]:
    rows, samples = view.rows(report), primary_samples(report, folder)
    plots = [pareto_chart(report, 1040, 430, "wide"), pareto_chart(report, 388, 400, "narrow")]
    ridges = [latency_chart(report, samples, 1040, "wide"), latency_chart(report, samples, 388, "narrow")]
    timed_without_samples = [one.name for one in report.variants if one.measurements]
    return {
        "schema": report.schema_,
        "title": heads.title(report),
        "created": report.created,
        "ci": f"{100 * report.ci_level:g} %",
        "headline": heads.headline(report),
        "detail": heads.detail(report),
        "why": report.pick.why if report.pick else "",
        "mood": _mood(report),
        "tiles": tiles(report, rows),
        "warnings": report.warnings,
        "rows": rows,
        "problems": _problems(rows),
        "plots": [one for one in plots if one is not None],
        "unplotted": _missing(rows, [point.name for point in points_of(report)]),
        "has_front": len(report.pareto) > 1,
        "kinds": {point.kind for point in points_of(report)},
        "ridges": [one for one in ridges if one is not None],
        "no_samples": _missing(rows, list(samples), among=timed_without_samples),
        "timed": t.timed(primary(report)) if primary(report) else "",
        "has_latency": primary(report) is not None,
        "metric": view.metric_head(report),
        "judged_among": heads.judged_among(report),
        "has_quality": any(one.quality for one in report.variants),
        "has_accuracy": any(one.accuracy for one in report.variants),
        "metric_names": _metric_names(report),
        "facts": view.how_it_was_measured(report),
        "measurements": view.measurement_rows(report),
        "has_energy": any(one.energy_mj is not None for v in report.variants for one in v.measurements),
        "environment": view.environment_rows(report),
        "against": report.against,
        "against_rows": view.against_rows(report),
        "conditions": view.condition_rows(report),
        "attachments": shown_attachments(report, folder),
        "reliability": details.reliability_charts(report),
        "reliability_names": details.line_names(report, "reliability"),
        "robustness": details.robustness_rows(report),
        "robust_names": details.robust_names(report),
        "confusions": details.confusions(report),
        "flipped": details.flipped(report, folder),
        "flip_counts": details.flip_counts(report),
        "sweeps": _sweeps(report),
        "variants": list(zip(report.variants, rows, strict=True)),
        "classes_shown": CLASSES_SHOWN,
    }


def _problems(rows: list[Row]) -> list[dict[str, object]]:
    """What is not ok, by kind, the worst first."""
    kinds = {
        "Failed, not to be used": ("failed", ("failed",)),
        "Unsure: what was seen does not decide": ("warnings", ("unsure",)),
        "Accepted by hand": ("warnings", ("failed, accepted", "unsure, accepted")),
        "Skipped: this machine cannot run them": ("skipped", ("skipped",)),
    }
    return [
        {"heading": heading, "css": css, "rows": found}
        for heading, (css, marks) in kinds.items()
        if (found := [row for row in rows if row.mark in marks])
    ]


def _sweeps(report: Report) -> list[dict[str, object]]:
    leads = {
        "batch": "Each size was timed beside the one before it; the sweep ends where throughput gains less than 5 %, or "
        "where memory or time ends (see each variant's notes).",
        "threads": "All numbers of threads of a variant were timed beside each other, each in a process of its own.",
    }
    return [
        {
            "key": key,
            "title": {"batch": "Throughput over batch size", "threads": "Throughput over threads"}[key],
            "lead": lead,
            "charts": charts,
            "names": details.line_names(report, key),
            "rows": view.sweep_rows(report, key),
        }
        for key, lead in leads.items()
        if (charts := details.sweep_charts(report, key))
    ]


def _mood(report: Report) -> str:
    if all(one.status == "failed" and not one.accepted for one in report.variants):
        return "bad"
    return "plain" if report.pick is None and primary(report) is None else "unsure" if report.pick is None else "good"


def _missing(rows: list[Row], shown: list[str], among: list[str] | None = None) -> list[str]:
    return [row.name for row in rows if row.name not in shown and (among is None or row.name in among)]


def _metric_names(report: Report) -> list[str]:
    return sorted({name for one in report.variants if one.accuracy for name in one.accuracy.metrics})


def tiles(report: Report, rows: list[Row]) -> list[dict[str, str]]:
    """The key figures of the pick beside the baseline's: label, value, small text below."""
    chosen = next((row for row in rows if row.is_pick), None)
    if chosen is None:
        return []
    base = next((row for row in rows if row.is_baseline and row is not chosen), None)

    def beside(key: str) -> str:
        return f"{base.name}: {getattr(base, key)}" if base is not None and getattr(base, key) != t.NONE else ""

    found = [
        ("Latency p50", chosen.p50, beside("p50")),
        ("Speed-up", chosen.speedup, chosen.speedup_interval),
        (view.metric_head(report), chosen.quality, chosen.quality_interval or beside("quality")),
        ("Drop", chosen.drop, chosen.drop_interval),
        ("Size", chosen.size, beside("size")),
    ]
    return [
        {"label": label, "value": value, "below": below}
        for label, value, below in found
        if value not in (t.NONE, "baseline", "1 (baseline)")
    ]
