"""What a plan rounds, as the training needs to know it: which input of which node is read rounded, and by which step.

This repeats for the float graph what ``emit`` does to it, so that what is trained is what is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from deploykit.base.errors import BadInput
from deploykit.quantization.qdq.graph import constant
from deploykit.quantization.qdq.placement_ort_cpu import ANCHORS, Plan
from deploykit.quantization.rewrites.hard_activations import hard_sigmoid_scales, hard_swish_scale
from deploykit.quantization.schemes import Affine, Scheme, affine, widest

Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Group:
    """Activations that share one step.

    ``values``: names; their ranges are one. ``affine``: where the step starts. ``learned``: whether it may move.
    ``most``: its largest allowed value, so that saturation still is the Clip that it took over; None: any.
    """

    values: tuple[str, ...]
    affine: Affine
    learned: bool
    most: float | None = None


@dataclass
class Points:
    """All rounding of activations.

    ``groups``: one step each. ``of``: activation name → index of its group. ``reads``: (node name, input index) of
    inputs that are read rounded. ``rounded_outputs``: names of graph outputs that are rounded. ``layers``: names of
    Conv, Gemm and MatMul nodes on integers → index of their input's group.
    """

    groups: list[Group] = field(default_factory=list)
    of: dict[str, int] = field(default_factory=dict)
    reads: set[tuple[str, int]] = field(default_factory=set)
    rounded_outputs: set[str] = field(default_factory=set)
    layers: dict[str, int] = field(default_factory=dict)


def points_of(plan: Plan, ranges: Ranges, scheme: Scheme) -> Points:
    """The rounding of ``plan``, which was made on a prepared float graph without padding.

    ``ranges``: activation name → its range.

    Raises:
        BadInput: a range is missing.
    """
    found = Points()
    absorbed = {node.outputs[0]: node for node in plan.absorbed}
    swish = {node.inputs[0] for node in plan.hard_swish}
    keys: dict[object, int] = {}
    for value in plan.points:
        key, group = _group(plan, value, ranges, scheme, absorbed, value in swish)
        if key not in keys:
            keys[key] = len(found.groups)
            found.groups.append(group)
        found.of[value.name or ""] = keys[key]
    integer = set(plan.nodes)
    for value in plan.points:
        node = absorbed.get(value)
        place = value if node is None else node.inputs[0]
        from_float = place is None or place.producer() not in integer
        readers = plan.reads.get(value) or [
            (use.node, use.idx) for use in value.uses() if use.node in integer or not from_float
        ]
        found.reads |= {(one.name or "", index) for one, index in readers}
        if value.is_graph_output() and not plan.reads and not from_float:
            found.rounded_outputs.add(value.name or "")
    for node in plan.nodes:
        if node.op_type in ANCHORS:
            source = node.inputs[0]
            assert source is not None
            found.layers[node.name or ""] = found.of[source.name or ""]
    return found


def _group(
    plan: Plan, value: ir.Value, ranges: Ranges, scheme: Scheme, absorbed: Mapping[ir.Value, ir.Node], swish: bool
) -> tuple[object, Group]:
    source = plan.shared.get(value, value)
    if source in plan.joined:
        members = sorted(one.name or "" for one in plan.joined[source])
        return tuple(members), Group(tuple(members), widest(_affine(one, ranges, scheme) for one in members), True)
    name = source.name or ""
    start = _affine(name, ranges, scheme)
    if swish:
        return (value.name, "swish"), Group((name,), hard_swish_scale(start), False)
    node = absorbed.get(source)
    if node is not None and node.op_type == "HardSigmoid":
        _, read = hard_sigmoid_scales(node, start)
        return name, Group((name,), read, True, 1 / (scheme.qmax - scheme.qmin))
    most = None
    high = constant(node.inputs[2]) if node is not None and len(node.inputs) > 2 else None
    if high is not None:
        most = float(high) / (start.scheme.qmax - start.zero_point)
        start = replace(start, scale=min(start.scale, most))
    return name, Group((name,), start, True, most)


def _affine(name: str, ranges: Ranges, scheme: Scheme) -> Affine:
    if name not in ranges:
        raise BadInput(f"there is no range for {name}", fix="Train it for int8 again with `quantize --method qat`.")
    return affine(*ranges[name], scheme)


def learned_ranges(points: Points, steps: list[float], ranges: Ranges) -> dict[str, tuple[float, float]]:
    """``ranges`` with those of the learned steps in place of theirs.

    Symmetric ranges keep the side on which nothing was seen: a Relu's stays at 0, for dialects with zero points.
    """
    found = dict(ranges)
    for group, step in zip(points.groups, steps, strict=True):
        if not group.learned:
            continue
        scheme, zero = group.affine.scheme, group.affine.zero_point
        low, high = (scheme.qmin - zero) * step, (scheme.qmax - zero) * step
        for name in group.values:
            seen_low, seen_high = ranges[name]
            if not scheme.symmetric:
                found[name] = low, high
            elif seen_high >= -seen_low:
                found[name] = max(low, min(seen_low, 0.0)), high
            else:
                found[name] = low, min(high, max(seen_high, 0.0))
    return found
