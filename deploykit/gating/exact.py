"""Limits on numbers without a chance error: sizes, memory of one run, counts of an audit, parity."""

from __future__ import annotations

from typing import Any

from deploykit.base.targets import REFERENCE
from deploykit.gating.evidence import Evidence
from deploykit.gating.question import FAIL, PASS, Question, failed

PLAIN = {
    "max_size_ratio": ("artifact.bytes", True, True),
    "max_size_bytes": ("artifact.bytes", True, False),
    "max_memory_ratio": ("peak_memory_bytes", True, True),
    "max_memory_bytes": ("peak_memory_bytes", True, False),
    "max_cold_start_ratio": ("cold_start_ms", True, True),
    "min_snr_db": ("parity.snr_db", False, False),
}
"""rule → where its number stands, whether it is a maximum, whether it is divided by the baseline variant's."""
SINGLE_READINGS = {"max_memory_ratio", "max_memory_bytes", "max_cold_start_ratio"}


def plain_limit(evidence: Evidence, name: str, rule: str, limit: float) -> Question:
    """A limit of :data:`PLAIN`."""
    place, most, relative = PLAIN[rule]
    variant = evidence.variants[name]
    if rule == "min_snr_db" and (variant.get("parity") or {}).get("identical"):
        return Question(
            name, rule, limit, verdict=PASS, reason="the outputs are identical", exact=True, source="parity"
        )
    value = _at(variant, place)
    if value is None:
        return failed(name, rule, "it was not measured", limit)
    if relative:
        base = evidence.variants.get(evidence.baseline or "")
        below = _at(base, place) if base else None
        if not below:
            return failed(name, rule, "it was not measured of the baseline variant", limit)
        value = value / below
    source = "a single reading" if rule in SINGLE_READINGS else "the report"
    return Question(name, rule, limit, value, most, exact=True, source=source)


def min_int8_conv_share(evidence: Evidence, name: str, limit: float) -> Question:
    """The share of the convolutions that the engine really runs on int8, counted in the graph it made."""
    rule, audit = "min_int8_conv_share", evidence.variants[name].get("audit") or {}
    convs, int8 = audit.get("convs"), audit.get("int8_convs")
    if not isinstance(convs, int) or not isinstance(int8, int) or convs < 1:
        return failed(name, rule, "its engine was not audited, or has no convolution", limit)
    return Question(name, rule, limit, int8 / convs, False, exact=True, source=f"audit: {int8} of {convs}")


def require_parity(evidence: Evidence, name: str) -> Question:
    """Parity with its reference must be known and hold; eager PyTorch is the reference itself."""
    rule, variant = "require_parity", evidence.variants[name]
    parity = variant.get("parity")
    if parity is None and variant["target"] == REFERENCE:
        return Question(name, rule, True, verdict=PASS, reason="it is the reference", exact=True, source="parity")
    if parity is None:
        return failed(name, rule, "its outputs were not compared with a reference", True)
    told = f"compared with {parity['reference']} on {parity['n']} images"
    verdict = PASS if parity["ok"] and parity["n"] > 0 else FAIL
    reason = told if verdict == PASS else f"beyond its budget, {told}"
    return Question(name, rule, True, verdict=verdict, reason=reason, exact=True, source="parity")


def _at(variant: dict[str, Any], place: str) -> float | None:
    value: Any = variant
    for key in place.split("."):
        value = (value or {}).get(key)
    return None if value is None else float(value)
