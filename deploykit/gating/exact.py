"""Limits on numbers without a chance error: sizes, memory of one run, counts of an audit, parity."""

from __future__ import annotations

from collections.abc import Callable

from deploykit.base.targets import REFERENCE
from deploykit.gating.evidence import Evidence
from deploykit.gating.question import FAIL, PASS, Question, failed
from deploykit.reporting.schema import Variant


def _size(one: Variant) -> float | None:
    return one.artifact.bytes if one.artifact else None


PLAIN: dict[str, tuple[Callable[[Variant], float | None], bool, bool]] = {
    "max_size_ratio": (_size, True, True),
    "max_size_bytes": (_size, True, False),
    "max_memory_ratio": (lambda one: one.peak_memory_bytes, True, True),
    "max_memory_bytes": (lambda one: one.peak_memory_bytes, True, False),
    "max_cold_start_ratio": (lambda one: one.cold_start_ms, True, True),
    "min_snr_db": (lambda one: one.parity.snr_db if one.parity else None, False, False),
}
"""rule → its number, whether it is a maximum, whether it is divided by the baseline variant's."""
SINGLE_READINGS = {"max_memory_ratio", "max_memory_bytes", "max_cold_start_ratio"}


def plain_limit(evidence: Evidence, name: str, rule: str, limit: float) -> Question:
    """A limit of :data:`PLAIN`."""
    number, most, relative = PLAIN[rule]
    variant = evidence.variants[name]
    if rule == "min_snr_db" and variant.parity and variant.parity.identical:
        return Question(
            name, rule, limit, verdict=PASS, reason="the outputs are identical", exact=True, source="parity"
        )
    value = number(variant)
    if value is None:
        return failed(name, rule, "it was not measured", limit)
    if relative:
        base = evidence.variants.get(evidence.baseline or "")
        below = number(base) if base else None
        if not below:
            return failed(name, rule, "it was not measured of the baseline variant", limit)
        value = value / below
    source = "a single reading" if rule in SINGLE_READINGS else "the report"
    return Question(name, rule, limit, float(value), most, exact=True, source=source)


def min_int8_conv_share(evidence: Evidence, name: str, limit: float) -> Question:
    """The share of the convolutions that the engine really runs on int8, counted in the graph it made."""
    rule, audit = "min_int8_conv_share", evidence.variants[name].audit or {}
    convs, int8 = audit.get("convs"), audit.get("int8_convs")
    if not isinstance(convs, int) or not isinstance(int8, int) or convs < 1:
        return failed(name, rule, "its engine was not audited, or has no convolution", limit)
    return Question(name, rule, limit, int8 / convs, False, exact=True, source=f"audit: {int8} of {convs}")


def require_parity(evidence: Evidence, name: str) -> Question:
    """Parity with its reference must be known and hold; eager PyTorch is the reference itself."""
    rule, variant = "require_parity", evidence.variants[name]
    parity = variant.parity
    if parity is None and variant.target == REFERENCE:
        return Question(name, rule, True, verdict=PASS, reason="it is the reference", exact=True, source="parity")
    if parity is None:
        return failed(name, rule, "its outputs were not compared with a reference", True)
    told = f"compared with {parity.reference} on {parity.n} images"
    verdict = PASS if parity.ok and parity.n > 0 else FAIL
    reason = told if verdict == PASS else f"beyond its budget, {told}"
    return Question(name, rule, True, verdict=verdict, reason=reason, exact=True, source="parity")
