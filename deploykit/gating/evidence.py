"""What a verdict is made from: a checked report, and the raw numbers behind it where they are there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deploykit.config.gate import MeasurementChoice

Blocks = dict[int, float]
"""round → median time of that round's block, in ms."""


@dataclass(frozen=True)
class Answers:
    """What a variant answered.

    Attributes:
        predicted: int64 [N], class of each image.
        labels: int64 [N].
        digest: hash of the logits; equal ones mean that not only the answers are equal.
    """

    predicted: np.ndarray
    labels: np.ndarray
    digest: str

    @property
    def right(self) -> np.ndarray:
        """Which answers are right: bool [N]."""
        return np.asarray(self.predicted == self.labels)


@dataclass
class Evidence:
    """One report with its raw numbers.

    Attributes:
        report: as ``deploykit.reporting.read_report`` returns it.
        sessions: measurements of the same variants, each variant → :data:`Blocks`; the report's own is the first, those
            that ``--retry`` made follow. Variants without raw samples are absent.
        floors: the noise floor of each session as a ratio, or None where it was not measured.
        answers: variant → its answers; those without logits are absent.
        problems: variant → why its numbers cannot be believed.
    """

    report: dict[str, Any]
    sessions: list[dict[str, Blocks]] = field(default_factory=list)
    floors: list[float | None] = field(default_factory=list)
    answers: dict[str, Answers] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)

    @property
    def variants(self) -> dict[str, dict[str, Any]]:
        """Name → variant, in the report's order."""
        return {variant["name"]: variant for variant in self.report["variants"]}

    @property
    def baseline(self) -> str | None:
        """The report's own baseline variant."""
        name: str | None = self.report.get("baseline")
        return name


OF = ("scenario", "batch", "threads", "timed", "clock")


def wanted_measurement(report: dict[str, Any], choice: MeasurementChoice | None) -> dict[str, Any]:
    """Which measurement is judged: the report's primary one, with what the policy asks for in its place.

    The primary one is what the first speed-up speaks of, else the first that was measured.
    """
    found = next((dict(one["speedup"]["of"]) for one in report["variants"] if one.get("speedup")), None)
    if found is None:
        first: dict[str, Any] = next(
            (one for variant in report["variants"] for one in variant.get("measurements") or []), {}
        )
        found = {key: first.get(key) for key in OF}
    asked = {} if choice is None else {key: value for key, value in choice.plain().items() if value is not None}
    return {**found, **asked}


def measurement_of(variant: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any] | None:
    """The variant's measurement of this kind, or None."""
    for one in variant.get("measurements") or []:
        if all(one.get(key) == value for key, value in wanted.items()):
            return dict(one)
    return None
