"""The verdict for other programs: a Markdown comment (what did not pass first), GitHub's annotations, JUnit XML."""

from __future__ import annotations

import os
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploykit.base.atomic import write_json, write_text
from deploykit.gating.metric_values import Metric, to_action_benchmark, to_bencher, to_openmetrics
from deploykit.gating.question import CANNOT_TELL, FAIL, PASS
from deploykit.gating.result import MARKS, WORDS, interval_of, limit_of, why
from deploykit.gating.verdict import Finding
from deploykit.reporting.format import escaped, folded, in_unit_of, table

if TYPE_CHECKING:
    from deploykit.gating.result import Gate
    from deploykit.gating.verdict import Finding

HEAD = ["", "Variant", "Limit", "", "Value", "Interval"]


def to_comment(gate: Gate) -> str:
    """The Markdown of a gate; its first line lets a job find and replace its own older comment."""
    lines = [f"<!-- deploykit gate {escaped(gate.policy).replace('--', '- -')} -->"]
    lines += [f"## {MARKS[gate.verdict]} deploykit gate: {escaped(gate.sentence())}", ""]
    open_ = sorted((one for one in gate.findings if one.verdict != PASS), key=lambda one: one.verdict != FAIL)
    if open_:
        lines += [*table(HEAD, [_row(one) for one in open_], "lllrrr"), ""]
        told = [one for one in open_ if one.reason or one.more]
        lines += [f"- **{escaped(one.variant)}** `{one.rule}`: {escaped(_words(one))}" for one in told]
        lines += [""] if told else []
    lines += [*(f"- {escaped(one)}" for one in gate.failures), ""] if gate.failures else []
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
        escaped(in_unit_of(one.rule, one.value)),
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


LEVELS = {FAIL: "error", "cannot_tell": "warning"}


def to_annotations(gate: Gate) -> list[str]:
    """``::error title=…::…`` per broken limit, ``::warning`` per undecided one, ``::notice`` where all hold."""
    lines = [
        f"::{LEVELS[one.verdict]} title={_property(f'{one.variant}: {one.rule} {WORDS[one.verdict]}')}::{_data(why(one))}"
        for one in sorted(gate.findings, key=lambda one: one.verdict != FAIL)
        if one.verdict != PASS
    ]
    return lines or [f"::notice title=deploykit gate::{_data(gate.sentence())}"]


def _data(text: str) -> str:
    """Escaped as GitHub's toolkit does."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(gate: Gate) -> str:
    """JUnit XML; an undecided limit is an ``error``, because the job does not pass with it, and ``skipped`` where it does."""
    counts = _counts(gate.findings, gate.only_warns)
    root = ET.Element("testsuites", {"name": _clean(f"deploykit gate {gate.policy}"), **counts})
    for variant in dict.fromkeys(one.variant for one in gate.findings):
        own = [one for one in gate.findings if one.variant == variant]
        suite = ET.SubElement(root, "testsuite", {"name": _clean(variant), **_counts(own, gate.only_warns)})
        for one in own:
            case = ET.SubElement(
                suite, "testcase", classname=_clean(f"{gate.policy}.{variant}"), name=one.rule, time="0"
            )
            if one.verdict in (FAIL, CANNOT_TELL):
                kind = "failure" if one.verdict == FAIL else "skipped" if gate.only_warns else "error"
                ET.SubElement(case, kind, type=one.verdict, message=_clean(why(one)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _counts(findings: list[Finding], only_warns: bool) -> dict[str, str]:
    failures = sum(one.verdict == FAIL for one in findings)
    undecided = sum(one.verdict == CANNOT_TELL for one in findings)
    found = {"failures": failures, "errors": 0 if only_warns else undecided, "skipped": undecided if only_warns else 0}
    return {"tests": str(len(findings)), **{key: str(count) for key, count in found.items()}, "time": "0"}


def _clean(text: str) -> str:
    return _NOT_XML.sub("?", text)


def write_forms(folder: Path, gate: Gate, numbers: list[Metric]) -> tuple[Path, ...]:
    """Write the verdict and its numbers in all their forms; ``gate.json`` last."""
    texts = {
        "gate.md": to_comment(gate),
        "gate.junit.xml": to_junit(gate),
        "gate.metrics.txt": to_openmetrics(numbers),
    }
    tables: dict[str, Any] = {
        "gate.action-benchmark.json": to_action_benchmark(numbers),
        "gate.bencher.json": to_bencher(numbers),
        "gate.json": {"schema": "deploykit.gate/1", **gate.to_dict()},
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    for name, content in tables.items():
        write_json(folder / name, content)
    return tuple(folder / name for name in (*texts, *tables))


def on_github() -> bool:
    """Whether this runs as a step of a GitHub workflow."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def annotate(gate: Gate) -> None:
    """GitHub's annotations on stderr, where its runner reads them too, and its step summary."""
    print("\n".join(to_annotations(gate)), file=sys.stderr, flush=True)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(to_comment(gate) + "\n")
