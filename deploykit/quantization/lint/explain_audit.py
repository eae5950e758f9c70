"""What an engine tells of itself, with the Q and DQ left in it explained by the linter of its target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from deploykit.base.engine_layers import EngineAudit, UnfusedQdq
from deploykit.base.runner import Audited, Runner
from deploykit.base.targets import target_of

LEFT = "qdq_left"


class LeftKind(TypedDict):
    """The left Q or DQ of one kind and reason.

    ``why``: as the engine tells it. ``because``: why what stands beside computes in float, as the linter has it; ``needed`` at
    the border, or empty. ``first``: name of one of them.
    """

    type: str
    count: int
    why: str
    because: str
    first: str


def audited(runner: Runner) -> Mapping[str, object] | None:
    """The audit of a runner, its left Q and DQ in words; None: its engine tells nothing of itself."""
    if not isinstance(runner, Audited):
        return None
    found, left = audit_and_left(runner)
    return found if left is None else {**found, LEFT: in_words(left)}


def audit_and_left(runner: Runner) -> tuple[EngineAudit, list[LeftKind] | None]:
    """The audit of a runner without its left Q and DQ, and these as rows; None: its engine does not tell them."""
    found: EngineAudit = runner.audit() if isinstance(runner, Audited) else {}
    left = found.pop("qdq_left", None)
    if left is None:
        return found, None
    return found, grouped(left, reasons(runner.spec.path, runner.target, left))


def reasons(path: Path, target: str, left: Sequence[UnfusedQdq]) -> dict[str, str]:
    """Node of the file → why it computes in float, as the linter has it; nothing where nothing needs a reason."""
    if path.suffix.lower() != ".onnx" or target_of(target).dialect is None or all(one["needed"] for one in left):
        return {}
    import onnx

    from deploykit.quantization.lint.lint import findings_of

    told: dict[str, str] = {}
    for finding in findings_of(onnx.load(str(path)), target):
        told.setdefault(finding.node, finding.message)
    return told


def grouped(left: Sequence[UnfusedQdq], told: Mapping[str, str]) -> list[LeftKind]:
    """Those of one kind and reason together, most of them first."""
    found: dict[tuple[str, str, str], LeftKind] = {}
    for one in left:
        because = next((told[node] for node in one["beside"] if node in told), "needed" if one["needed"] else "")
        key = (one["type"], one["why"], because)
        row: LeftKind = {"type": one["type"], "count": 0, "why": one["why"], "because": because, "first": one["name"]}
        found.setdefault(key, row)["count"] += 1
    return sorted(found.values(), key=lambda row: -row["count"])


def in_words(rows: Sequence[LeftKind]) -> list[str]:
    """One line for each kind."""
    return [
        f"{row['count']} × {row['type'].lower()}: {row['why']}"
        + (f" ({row['because']})" if row["because"] else "")
        + f", first {row['first']}"
        for row in rows
    ]
