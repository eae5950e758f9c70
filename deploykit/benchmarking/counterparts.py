"""A report's speed-ups, and each candidate beside the variant of the same name on the other side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deploykit.benchmarking.against import SUFFIX
from deploykit.benchmarking.measurements import SCENARIO
from deploykit.benchmarking.variant import Judged
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.evaluation.agreement import compare
from deploykit.latency.results import Measured, ratio

if TYPE_CHECKING:
    import numpy as np


def speedup_over(base: str, name: str, measured: Measured, config: BenchmarkConfig) -> dict[str, Any] | None:
    """The paired speed-up of a variant over another, with what it is of; None where one of them was not timed."""
    speed = ratio(measured, base, name, "compute", config.ci_level, config.seed)
    if speed is None or measured.times[base].status != "ok":
        return None
    of = {"scenario": SCENARIO, "batch": config.batch, "threads": config.threads, "timed": "compute", "clock": "host"}
    return {"estimate": speed.estimate, "low": speed.low, "high": speed.high, "of": of}


def add_counterparts(
    variants: Sequence[dict[str, Any]],
    judged: Sequence[Judged],
    measured: Measured,
    labels: np.ndarray,
    config: BenchmarkConfig,
) -> None:
    """Give each variant that has a ``NAME@base`` its ``against``: both were measured in the same rounds and images."""
    known = {one.spec.name: one for one in judged}
    for variant in variants:
        ours, base = known[variant["name"]], known.get(variant["name"] + SUFFIX)
        if base is None:
            continue
        found: dict[str, Any] = {"name": base.spec.name}
        if ours.ok and base.ok:
            found["speedup"] = speedup_over(base.spec.name, ours.spec.name, measured, config)
        if ours.predicted is not None and base.predicted is not None:
            found |= compare(ours.predicted, base.predicted, labels, config.ci_level, config.seed)
        variant["against"] = found
