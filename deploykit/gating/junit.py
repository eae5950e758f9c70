"""The verdict as JUnit XML: one test case per limit, one suite per variant."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from deploykit.gating.question import CANNOT_TELL, FAIL
from deploykit.gating.shown import why

if TYPE_CHECKING:
    from deploykit.gating.result import Gate
    from deploykit.gating.verdict import Finding

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(gate: Gate) -> str:
    """JUnit XML; an undecided limit is an ``error``, because the job does not pass with it."""
    root = ET.Element("testsuites", {"name": _clean(f"deploykit gate {gate.policy}"), **_counts(gate.findings)})
    for variant in dict.fromkeys(one.variant for one in gate.findings):
        own = [one for one in gate.findings if one.variant == variant]
        suite = ET.SubElement(root, "testsuite", {"name": _clean(variant), **_counts(own)})
        for one in own:
            case = ET.SubElement(
                suite, "testcase", classname=_clean(f"{gate.policy}.{variant}"), name=one.rule, time="0"
            )
            if one.verdict in (FAIL, CANNOT_TELL):
                kind = "failure" if one.verdict == FAIL else "error"
                ET.SubElement(case, kind, type=one.verdict, message=_clean(why(one)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _counts(findings: list[Finding]) -> dict[str, str]:
    failures = sum(one.verdict == FAIL for one in findings)
    errors = sum(one.verdict == CANNOT_TELL for one in findings)
    return {"tests": str(len(findings)), "failures": str(failures), "errors": str(errors), "time": "0"}


def _clean(text: str) -> str:
    return _NOT_XML.sub("?", text)
