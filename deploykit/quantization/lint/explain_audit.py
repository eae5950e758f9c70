"""What an engine tells of itself, with the Q and DQ left in it explained by the linter of its target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LEFT = "qdq_left"


def audited(runner: Any) -> dict[str, Any] | None:
    """The audit of a runner, its left Q and DQ in words; None: its engine tells nothing of itself."""
    if not hasattr(runner, "audit"):
        return None
    found, left = audit_and_left(runner)
    return found if left is None else {**found, LEFT: in_words(left)}


def audit_and_left(runner: Any) -> tuple[dict[str, Any], list[dict[str, Any]] | None]:
    """The audit of a runner without its left Q and DQ, and these as rows; None: its engine does not tell them."""
    found: dict[str, Any] = runner.audit()
    if LEFT not in found:
        return found, None
    left = found.pop(LEFT)
    return found, grouped(left, reasons(runner.spec.path, runner.target, left))


def reasons(path: Path, target: str, left: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Node of the file → why it computes in float, as the linter has it; nothing where nothing needs a reason."""
    from deploykit.quantization.lint.lint import RULES

    if path.suffix.lower() != ".onnx" or target not in RULES or all(one["needed"] for one in left):
        return {}
    import onnx

    from deploykit.quantization.lint.lint import findings_of

    told: dict[str, str] = {}
    for finding in findings_of(onnx.load(str(path)), target):
        told.setdefault(finding.node, finding.message)
    return told


def grouped(left: Sequence[Mapping[str, Any]], told: Mapping[str, str]) -> list[dict[str, Any]]:
    """Those of one kind and reason together, most of them first: ``type``, ``count``, ``why``, ``because`` and ``first``."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for one in left:
        because = next((told[node] for node in one["beside"] if node in told), "needed" if one["needed"] else "")
        key = (one["type"], one["why"], because)
        row = {"type": one["type"], "count": 0, "why": one["why"], "because": because, "first": one["name"]}
        found.setdefault(key, row)["count"] += 1
    return sorted(found.values(), key=lambda row: -row["count"])


def in_words(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line for each kind."""
    return [
        f"{row['count']} × {row['type'].lower()}: {row['why']}"
        + (f" ({row['because']})" if row["because"] else "")
        + f", first {row['first']}"
        for row in rows
    ]
