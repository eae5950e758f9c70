"""The verdict as a Markdown comment: the sentence and what did not pass first, everything else folded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploykit.gating.question import FAIL, PASS
from deploykit.gating.shown import MARKS, WORDS, interval_of, limit_of, sentence, value_of, why
from deploykit.gating.verdict import Finding
from deploykit.reporting.markdown_part import escaped, folded, table

if TYPE_CHECKING:
    from deploykit.gating.result import Gate

HEAD = ["", "Variant", "Limit", "", "Value", "Interval"]


def to_comment(gate: Gate) -> str:
    """The Markdown of a gate; its first line lets a job find and replace its own older comment."""
    lines = [f"<!-- deploykit gate {escaped(gate.policy).replace('--', '- -')} -->"]
    lines += [f"## {MARKS[gate.verdict]} deploykit gate: {escaped(sentence(gate.findings, gate.verdict))}", ""]
    open_ = sorted((one for one in gate.findings if one.verdict != PASS), key=lambda one: one.verdict != FAIL)
    if open_:
        lines += [*table(HEAD, [_row(one) for one in open_], "lllrrr"), ""]
        told = [one for one in open_ if one.reason or one.more]
        lines += [f"- **{escaped(one.variant)}** `{one.rule}`: {escaped(_words(one))}" for one in told]
        lines += [""] if told else []
    passed = [one for one in gate.findings if one.verdict == PASS]
    lines += folded(
        f"{len(passed)} limits that hold", table(HEAD, [_row(one) for one in passed], "lllrrr") if passed else []
    )
    lines += folded("How this was judged", [*(f"- {escaped(one)}" for one in _method(gate))])
    return "\n".join(lines).rstrip() + "\n"


def _row(one: Finding) -> list[str]:
    return [
        MARKS[one.verdict],
        escaped(one.variant),
        f"`{one.rule}`",
        escaped(limit_of(one)),
        escaped(value_of(one.rule, one.value)),
        escaped(interval_of(one)),
    ]


def _words(one: Finding) -> str:
    parts = [one.reason] if one.reason else []
    if one.more:
        parts.append(f"{WORDS[one.verdict]}; {one.more} would settle it")
    return "; ".join(parts) or why(one)


def _method(gate: Gate) -> list[str]:
    told = [
        f"policy {gate.policy}: {100 * gate.confidence:g} % confidence over all limits together (Holm); an interval "
        "stands at the level that its own limit was judged at",
        f"report of {gate.report_created}" + (f" against {gate.baseline_created}" if gate.baseline_created else ""),
    ]
    sources = dict.fromkeys(one.source for one in gate.findings if one.source)
    told += [f"judged from {', '.join(sources)}"] if sources else []
    told += [f"measured {gate.looks} times, the confidence shared among the looks"] if gate.looks > 1 else []
    return told + list(gate.notes)
