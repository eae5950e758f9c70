"""What a gate found, whole, with its numbers as people read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from deploykit.gating.evidence import Evidence
from deploykit.gating.question import CANNOT_TELL, FAIL, PASS
from deploykit.gating.verdict import EXIT_CODES, Finding, overall
from deploykit.reporting.format import NONE, in_unit_of

WORDS = {PASS: "pass", FAIL: "fail", CANNOT_TELL: "cannot tell"}
MARKS = {PASS: "✅", FAIL: "❌", CANNOT_TELL: "❔"}


def interval_of(one: Finding) -> str:
    """``0.981 … 1.003×``, or nothing."""
    if one.low is None or one.high is None:
        return ""
    low, high = in_unit_of(one.rule, one.low), in_unit_of(one.rule, one.high)
    for unit in ("×", " pt", " %", " ms", " /s"):
        if low.endswith(unit) and high.endswith(unit):
            low = low.removesuffix(unit)
    return f"{low} … {high}"


def limit_of(one: Finding) -> str:
    """``≤ 1.00 pt``, ``≥ 1.5×``; a dash where there is none."""
    if one.limit is None or isinstance(one.limit, bool):
        return "required" if one.limit else NONE
    return f"{'≤' if one.most else '≥'} {in_unit_of(one.rule, one.limit).removeprefix('+')}"


def why(one: Finding) -> str:
    """The finding in words, without the variant's name."""
    parts = []
    if one.value is not None:
        interval = interval_of(one)
        level = f" ({100 * one.level:.4g} % interval {interval})" if interval and one.level is not None else ""
        parts.append(f"{in_unit_of(one.rule, one.value)}{level}, limit {limit_of(one)}")
    if one.reason:
        parts.append(one.reason)
    if one.more:
        parts.append(f"{one.more} would settle it")
    return "; ".join(parts)


@dataclass(frozen=True)
class Gate:
    """The verdict of one report.

    Attributes:
        policy: name of the policy.
        confidence: over all limits together.
        findings: one per limit.
        notes: what was not judged, and why.
        failures: variants that failed without being judged.
        report_created: of the report.
        baseline_created: of the older report, or None.
        looks: how many times was measured and judged.
        times: variant → its time over the report's baseline variant's: value, low, high; only ratios, no milliseconds.
        only_warns: that it cannot tell is a warning: the exit code is 0.
    """

    policy: str
    confidence: float
    findings: list[Finding]
    notes: list[str] = field(default_factory=list)
    report_created: str = ""
    baseline_created: str | None = None
    looks: int = 1
    times: dict[str, tuple[float, float | None, float | None]] = field(default_factory=dict)
    only_warns: bool = False
    failures: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """``pass``, ``fail`` or ``cannot_tell``."""
        return overall(self.findings)

    @property
    def exit_code(self) -> int:
        """0, 1 or 3; where *cannot tell* only warns, 0 for it."""
        return 0 if self.verdict == CANNOT_TELL and self.only_warns else EXIT_CODES[self.verdict]

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
            "failures": list(self.failures),
        }

    def summary(self) -> str:
        """The sentence, then one line per limit, what did not pass first."""
        order = {"fail": 0, "cannot_tell": 1, "pass": 2}
        lines = [
            f"{MARKS[one.verdict]} {one.variant} {one.rule}: {why(one)}".rstrip(": ")
            for one in sorted(self.findings, key=lambda one: order[one.verdict])
        ]
        return "\n".join([self.sentence(), *lines, *self.failures, *self.notes])

    def sentence(self) -> str:
        """The verdict in one sentence."""
        findings, verdict = self.findings, self.verdict
        judged = len({one.variant for one in findings})
        counts = {kind: sum(one.verdict == kind for one in findings) for kind in WORDS}
        limits = (
            f"{len(findings)} limit{'s' if len(findings) != 1 else ''} on {judged} variant{'s' if judged != 1 else ''}"
        )
        if verdict == PASS:
            return f"pass: {limits} hold" if findings else "pass: the policy asks nothing of this report"
        if verdict == FAIL:
            undecided = f", {counts[CANNOT_TELL]} undecided" if counts[CANNOT_TELL] else ""
            return f"fail: {counts[FAIL]} of {limits} broken{undecided}"
        warns = "; the policy makes that a warning" if self.only_warns else ""
        return f"cannot tell: {counts[CANNOT_TELL]} of {limits} undecided, none broken{warns}"


def times_of(evidence: Evidence) -> dict[str, tuple[float, float | None, float | None]]:
    """Variant → time over the baseline variant's, from the stated speed-ups."""
    found = {}
    for name, variant in evidence.variants.items():
        speedup = variant.speedup
        if speedup:
            low, high = speedup.low, speedup.high
            found[name] = (1 / speedup.estimate, 1 / high if high else None, 1 / low if low else None)
    return found
