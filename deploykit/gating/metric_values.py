"""The numbers of a report for charts over time: GitLab's metrics, github-action-benchmark, Bencher.

All three compare a number with the one before it, so only what may be compared across runs is given: times as a ratio to
the baseline variant measured beside them, never milliseconds; drops, shares, sizes.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploykit.gating.evidence import Evidence
from deploykit.gating.result import times_of

Metric = tuple[str, str, str, float, float | None, float | None]
"""Variant, measure, unit, value, low, high."""


def metrics_of(evidence: Evidence) -> list[Metric]:
    """The numbers of every variant that was measured; in all of them smaller is better."""
    return list(_metrics(evidence))


def _metrics(evidence: Evidence) -> Iterator[Metric]:
    times = times_of(evidence)
    for name, variant in evidence.variants.items():
        if not variant.usable and variant.status != "unsure":
            continue
        if name in times:
            yield (name, "time_ratio", f"times {evidence.baseline}", *times[name])
        accuracy = variant.accuracy
        if accuracy is not None:
            low, high = accuracy.top1_low, accuracy.top1_high
            ends = (1 - high, 1 - low) if low is not None and high is not None else (None, None)
            yield (name, "top1_error", "ratio", 1 - accuracy.top1, *ends)
        if accuracy is not None and accuracy.drop_pt is not None:
            yield (
                name,
                "drop_pt",
                "pt",
                accuracy.drop_pt,
                accuracy.drop_pt_low,
                accuracy.drop_pt_high,
            )
        if accuracy is not None and accuracy.negative_flips is not None:
            yield (name, "negative_flips", "ratio", accuracy.negative_flips, None, None)
        if variant.artifact:
            yield (name, "size_bytes", "bytes", float(variant.artifact.bytes), None, None)
        if variant.peak_memory_bytes:
            yield (name, "peak_memory_bytes", "bytes", float(variant.peak_memory_bytes), None, None)


def to_openmetrics(metrics: list[Metric]) -> str:
    """GitLab's metrics report (OpenMetrics text): ``deploykit_time_ratio{variant="int8"} 0.41``."""
    lines = []
    for measure in dict.fromkeys(one[1] for one in metrics):
        lines.append(f"# TYPE deploykit_{measure} gauge")
        for variant, name, _, value, _, _ in metrics:
            if name == measure:
                lines.append(f'deploykit_{measure}{{variant="{_label(variant)}"}} {value:.9g}')
    return "\n".join([*lines, "# EOF"]) + "\n"


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def to_action_benchmark(metrics: list[Metric]) -> list[dict[str, str | float]]:
    """github-action-benchmark, ``customSmallerIsBetter``."""
    found = []
    for variant, measure, unit, value, low, high in metrics:
        one: dict[str, str | float] = {"name": f"{variant} {measure}", "unit": unit, "value": value}
        if low is not None and high is not None:
            one["range"] = f"{low:.6g} to {high:.6g}"
        found.append(one)
    return found


def to_bencher(metrics: list[Metric]) -> dict[str, dict[str, dict[str, float]]]:
    """Bencher Metric Format: benchmark → measure → value with its bounds."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for variant, measure, _, value, low, high in metrics:
        one = {"value": value}
        if low is not None and high is not None:
            one |= {"lower_value": low, "upper_value": high}
        found.setdefault(variant, {})[measure.replace("_", "-")] = one
    return found
