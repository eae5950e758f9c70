"""``deploykit quantize --lint``: what a target will refuse, misread or run slowly, read off a Q/DQ file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import onnx

from deploykit.base import environment
from deploykit.base.atomic import JsonObject
from deploykit.base.checkpoint import check_file
from deploykit.base.command_result import Result
from deploykit.base.errors import BadInput, unknown
from deploykit.base.targets import ORT_CPU, target_names, target_of
from deploykit.exporting.check_onnx import described
from deploykit.quantization.lint import storage, tensorrt, why_float
from deploykit.quantization.lint.view import Finding, View
from deploykit.quantization.qdq.dialects import SATURATING, dialect_of, int8_targets

Rule = Callable[[View], Iterator[Finding]]

EVERYWHERE: tuple[Rule, ...] = (
    storage.bad_scales,
    why_float.float_convolutions,
    why_float.activations_per_channel,
    storage.weight_axes,
)
INTEGER_KERNELS: tuple[Rule, ...] = (
    why_float.convolutions_without_q,
    why_float.biases,
    why_float.float_islands,
    partial(
        storage.odd_channels, multiple=16, why="the depthwise kernel is up to three times slower", depthwise_only=True
    ),
)
X86: tuple[Rule, ...] = (storage.slow_types,)
SIGNED_INPUTS: tuple[Rule, ...] = (
    tensorrt.zero_points,
    tensorrt.integer_types,
    tensorrt.integer_operators,
    tensorrt.cut_fusions,
    tensorrt.concat_scales,
    partial(storage.odd_channels, multiple=16, why="int8 tensor cores work on groups of 16, the rest is padding"),
)
RULES: dict[str, tuple[Rule, ...]] = {
    "integer-kernels": INTEGER_KERNELS,
    "signed-inputs": SIGNED_INPUTS,
    "unsigned-inputs": (),
}
"""Of each dialect of Q/DQ."""


def lint_graph(proto: onnx.ModelProto, target: str, isa: str = "vnni") -> list[Finding]:
    """Judge a Q/DQ file.

    ``isa``: of the CPU, for a target that runs on one, as ``base.environment.ISAS`` names them. Returns those that break
    the target first; within each, in the order of rules and nodes. Of a float model that alone.

    Raises:
        BadInput: a target that has no int8.
    """
    dialect = target_of(target).dialect if target in target_names() else None
    if dialect is None:
        raise unknown("int8 target", target, int8_targets())
    view = View(proto)
    if float_model := list(why_float.nothing_on_integers(view)):
        return float_model
    rules = [*EVERYWHERE, *RULES[dialect]]
    if dialect == "integer-kernels" and isa != "arm64":
        rules += X86
        if isa in SATURATING:
            rules.append(storage.saturating_weights)
    found = [finding for rule in rules for finding in rule(view)]
    return sorted(found, key=lambda finding: not finding.breaks)


@dataclass(frozen=True)
class LintResult(Result):
    """What was found in a file.

    ``target``: it was judged for. ``findings``: those that break the target first.
    """

    path: Path
    target: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing breaks the target; notes may remain."""
        return not any(finding.breaks for finding in self.findings)

    def to_dict(self) -> JsonObject:
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


def lint(model: Path | str, target: str = ORT_CPU) -> LintResult:
    """Judge a Q/DQ file for ``target`` on this machine's CPU, without running it.

    ``model``: an ``.onnx`` file of any quantizer.

    Raises:
        BadInput: no ONNX file, or a target without int8.
    """
    dialect_of(target)
    path = check_file(Path(model))
    return LintResult(path, target, tuple(findings_of(_loaded(path), target)))


def findings_of(proto: onnx.ModelProto, target: str, isa: str | None = None) -> list[Finding]:
    """The findings in a graph for ``target`` on a CPU of this ``isa``; None: this machine's."""
    return lint_graph(proto, target, isa or environment.isa())


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
    if path.suffix.lower() != ".onnx":
        raise BadInput(f"{path} is no ONNX file", got=path.suffix or "no suffix", expected=".onnx")
    described(path)
    return onnx.load(str(path))
