"""``deploykit quantize --lint``: what a target will refuse, misread or run slowly in a Q/DQ file."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploykit.base.environment import cpu
from deploykit.base.errors import BadInput

if TYPE_CHECKING:
    import onnx

    from deploykit.quantization.lint.view import Finding


@dataclass(frozen=True)
class LintResult:
    """What was found in a file.

    Attributes:
        path: of the file.
        target: it was judged for.
        findings: those that break the target first.
    """

    path: Path
    target: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing breaks the target; notes may remain."""
        return not any(finding.breaks for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The object of ``--json``."""
        return {
            "file": str(self.path),
            "target": self.target,
            "ok": self.ok,
            "findings": [asdict(finding) for finding in self.findings],
        }

    def summary(self) -> str:
        """For people: one line for each rule that found something."""
        if not self.findings:
            return f"{self.path}: nothing to mend for {self.target}"
        broken = sum(finding.breaks for finding in self.findings)
        head = f"{self.path} for {self.target}: {broken} that break it, {len(self.findings) - broken} notes"
        return "\n".join((head, *(f"  {line}" for line in by_rule(self.findings))))


def lint(model: Path | str, target: str = "ort-cpu") -> LintResult:
    """Judge a Q/DQ file for ``target`` on this machine's CPU, without running it.

    Args:
        model: an ``.onnx`` file of any quantizer.
        target: that will read it.

    Raises:
        BadInput: no ONNX file, or a target without int8.
    """
    from deploykit.base.checkpoint import check_file
    from deploykit.quantization.qdq.dialects import dialect_of

    dialect_of(target)
    path = check_file(Path(model))
    return LintResult(path, target, tuple(findings_of(_loaded(path), target)))


def findings_of(proto: onnx.ModelProto, target: str) -> list[Finding]:
    """The findings in a graph for ``target`` on this machine's CPU."""
    from deploykit.quantization.lint.lint import lint as judge
    from deploykit.quantization.qdq.dialects import ARM

    return judge(proto, target, cpu()["isa"], arm=platform.machine().lower() in ARM)


def by_rule(findings: Sequence[Finding]) -> list[str]:
    """One line for each rule: how many nodes, the first of them, what is the matter and what to do."""
    rules: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        rules.setdefault((finding.code, finding.mend), []).append(finding)
    lines = []
    for (code, mend), found in rules.items():
        first = found[0]
        more = f" (and {len(found) - 1} more nodes)" if len(found) > 1 else ""
        lines.append(f"{'breaks' if first.breaks else 'note'} {code}: {first.node} {first.message}{more}. {mend}")
    return lines


def _loaded(path: Path) -> onnx.ModelProto:
    import onnx

    from deploykit.exporting.check_onnx import described

    if path.suffix.lower() != ".onnx":
        raise BadInput(f"{path} is no ONNX file", got=path.suffix or "no suffix", expected=".onnx")
    described(path)
    return onnx.load(str(path))
