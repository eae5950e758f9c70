"""What a gate found, whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from deploykit.gating.evidence import Evidence
from deploykit.gating.shown import MARKS, sentence, why
from deploykit.gating.verdict import EXIT_CODES, Finding, overall


@dataclass(frozen=True)
class Gate:
    """The verdict of one report.

    Attributes:
        policy: name of the policy.
        confidence: over all limits together.
        findings: one per limit.
        notes: what was not judged, and why.
        report_created: of the report.
        baseline_created: of the older report, or None.
        looks: how many times was measured and judged.
        times: variant → its time over the report's baseline variant's: value, low, high; only ratios, no milliseconds.
    """

    policy: str
    confidence: float
    findings: list[Finding]
    notes: list[str] = field(default_factory=list)
    report_created: str = ""
    baseline_created: str | None = None
    looks: int = 1
    times: dict[str, tuple[float, float | None, float | None]] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """``pass``, ``fail`` or ``cannot_tell``."""
        return overall(self.findings)

    @property
    def exit_code(self) -> int:
        """0, 1 or 3."""
        return EXIT_CODES[self.verdict]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able fields."""
        return {
            "verdict": self.verdict,
            "policy": self.policy,
            "confidence": self.confidence,
            "looks": self.looks,
            "report_created": self.report_created,
            "baseline_created": self.baseline_created,
            "findings": [one.to_dict() for one in self.findings],
            "notes": list(self.notes),
        }

    def summary(self) -> str:
        """The sentence, then one line per limit, what did not pass first."""
        order = {"fail": 0, "cannot_tell": 1, "pass": 2}
        lines = [
            f"{MARKS[one.verdict]} {one.variant} {one.rule}: {why(one)}".rstrip(": ")
            for one in sorted(self.findings, key=lambda one: order[one.verdict])
        ]
        return "\n".join([sentence(self.findings, self.verdict), *lines, *self.notes])


def times_of(evidence: Evidence) -> dict[str, tuple[float, float | None, float | None]]:
    """Variant → time over the baseline variant's, from the stated speed-ups."""
    found = {}
    for name, variant in evidence.variants.items():
        speedup = variant.get("speedup")
        if variant["status"] == "ok" and speedup:
            low, high = speedup.get("low"), speedup.get("high")
            found[name] = (1 / speedup["estimate"], 1 / high if high else None, 1 / low if low else None)
    return found
