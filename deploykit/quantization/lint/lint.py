"""``deploykit quantize --lint``: what a target will refuse, misread or run slowly, read off a Q/DQ file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial

import onnx

from deploykit.base.errors import unknown
from deploykit.quantization.lint import common, ort_cpu, tensorrt
from deploykit.quantization.lint.view import Finding, View
from deploykit.quantization.qdq.dialects import SUMS_IN_INT32

Rule = Callable[[View], Iterator[Finding]]

EVERYWHERE: tuple[Rule, ...] = (
    common.bad_scales,
    common.float_convolutions,
    common.activations_per_channel,
    common.weight_axes,
)
ORT_CPU: tuple[Rule, ...] = (
    ort_cpu.convolutions_without_q,
    ort_cpu.biases,
    ort_cpu.float_islands,
    partial(
        common.odd_channels, multiple=16, why="the depthwise kernel is up to three times slower", depthwise_only=True
    ),
)
X86: tuple[Rule, ...] = (ort_cpu.slow_types,)
TENSORRT: tuple[Rule, ...] = (
    tensorrt.zero_points,
    tensorrt.integer_types,
    tensorrt.integer_operators,
    tensorrt.cut_fusions,
    tensorrt.concat_scales,
    partial(common.odd_channels, multiple=16, why="int8 tensor cores work on groups of 16, the rest is padding"),
)
RULES: dict[str, tuple[Rule, ...]] = {
    "ort-cpu": ORT_CPU,
    "ort-trt": TENSORRT,
    "tensorrt": TENSORRT,
    "tensorrt-rtx": TENSORRT,
    "openvino": (),
}


def lint(
    proto: onnx.ModelProto, target: str, isa: Collection[str] = SUMS_IN_INT32, *, arm: bool = False
) -> list[Finding]:
    """Judge a Q/DQ file.

    Args:
        proto: the file.
        target: that will read it.
        isa: instruction sets of the CPU, for a target that runs on one.
        arm: whether that CPU is an Arm.

    Returns:
        Those that break the target first; within each, in the order of rules and nodes. Of a float model that alone.

    Raises:
        BadInput: a target that has no int8.
    """
    if target not in RULES:
        raise unknown("int8 target", target, RULES)
    view = View(proto)
    if float_model := list(common.nothing_on_integers(view)):
        return float_model
    rules = [*EVERYWHERE, *RULES[target]]
    if target == "ort-cpu" and not arm:
        rules += X86
        if not set(isa) & set(SUMS_IN_INT32):
            rules.append(ort_cpu.saturating_weights)
    found = [finding for rule in rules for finding in rule(view)]
    return sorted(found, key=lambda finding: not finding.breaks)
