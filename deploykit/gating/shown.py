"""Numbers of a verdict as people read them."""

from __future__ import annotations

from deploykit.gating.question import CANNOT_TELL, FAIL, PASS
from deploykit.gating.verdict import Finding

WORDS = {PASS: "pass", FAIL: "fail", CANNOT_TELL: "cannot tell"}
MARKS = {PASS: "✅", FAIL: "❌", CANNOT_TELL: "❔"}
MINUS = "−"
NONE = "–"


def value_of(rule: str, value: float | bool | None) -> str:
    """A number in the unit of its rule: ``+0.22 pt``, ``1.02×``, ``99.3 %``, ``28.1 dB``, ``1.2 MB``."""
    if value is None or isinstance(value, bool):
        return NONE if value is None else "yes" if value else "no"
    if rule.endswith("_pt") or "_pt_" in rule:
        return f"{value:+.2f} pt".replace("-", MINUS)
    if rule.endswith("_bytes"):
        return f"{value / 1e6:,.2f} MB"
    if rule.endswith("_db"):
        return f"{value:.1f} dB".replace("-", MINUS)
    if "ratio" in rule or "speedup" in rule:
        return f"{value:.3f}×"
    return f"{100 * value:.2f} %"


def interval_of(one: Finding) -> str:
    """``0.981 … 1.003×``, or nothing."""
    if one.low is None or one.high is None:
        return ""
    low, high = value_of(one.rule, one.low), value_of(one.rule, one.high)
    for unit in ("×", " pt", " %"):
        if low.endswith(unit) and high.endswith(unit):
            low = low.removesuffix(unit)
    return f"{low} … {high}"


def limit_of(one: Finding) -> str:
    """``≤ 1.00 pt``, ``≥ 1.5×``; a dash where there is none."""
    if one.limit is None or isinstance(one.limit, bool):
        return "required" if one.limit else NONE
    return f"{'≤' if one.most else '≥'} {value_of(one.rule, one.limit).removeprefix('+')}"


def why(one: Finding) -> str:
    """The finding in words, without the variant's name."""
    parts = []
    if one.value is not None:
        interval = interval_of(one)
        level = f" ({100 * one.level:.4g} % interval {interval})" if interval and one.level is not None else ""
        parts.append(f"{value_of(one.rule, one.value)}{level}, limit {limit_of(one)}")
    if one.reason:
        parts.append(one.reason)
    if one.more:
        parts.append(f"{one.more} would settle it")
    return "; ".join(parts)


def sentence(findings: list[Finding], verdict: str) -> str:
    """The verdict in one sentence."""
    judged = len({one.variant for one in findings})
    counts = {kind: sum(one.verdict == kind for one in findings) for kind in WORDS}
    limits = f"{len(findings)} limit{'s' if len(findings) != 1 else ''} on {judged} variant{'s' if judged != 1 else ''}"
    if verdict == PASS:
        return f"pass: {limits} hold" if findings else "pass: the policy asks nothing of this report"
    if verdict == FAIL:
        undecided = f", {counts[CANNOT_TELL]} undecided" if counts[CANNOT_TELL] else ""
        return f"fail: {counts[FAIL]} of {limits} broken{undecided}"
    return f"cannot tell: {counts[CANNOT_TELL]} of {limits} undecided, none broken"
