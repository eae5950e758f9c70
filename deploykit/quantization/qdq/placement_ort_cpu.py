"""Which activations are quantized for ONNX Runtime's CPU kernels, and which nodes then run on integers.

ONNX Runtime turns ``DQ → Conv → Q`` into one QLinearConv only when the Q follows the Conv directly, or follows a
Relu/Clip that the Q itself can take over: with uint8 and zero point 0 saturation at 0 *is* the Relu, so the node is
dropped. A Conv without a Q behind it stays float. The plan is made on the float graph, before anything is changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import onnx_ir as ir

from deploykit.quantization.qdq.graph import activation_inputs, attribute, constant, only_reader
from deploykit.quantization.rewrites.clamps import upper_bound

ANCHORS = ("Conv", "Gemm", "MatMul")
SAME_SCALE = ("MaxPool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze")
INTEGER_KERNELS = ("Add", "Mul", "GlobalAveragePool", "AveragePool", "Concat", "Sigmoid", *SAME_SCALE)


@dataclass
class Plan:
    """What will be quantized.

    Attributes:
        nodes: that will run on integers, in topological order.
        points: activations that get a Q; a value made by an absorbed Relu/Clip stands for the node's own output.
        absorbed: Relu, Clip and HardSigmoid nodes whose Q takes them over.
        hard_swish: HardSwish nodes that become an integer product (``hard_activations``).
        clamps: Min nodes with a constant bound, which stay between integers of one scale (``clamps``).
        shared: value → value whose scale it takes (MaxPool, Reshape …).
        joined: value → values that have one scale together, the widest of theirs.
        reads: value → (node, input index) that read it rounded; empty where every node on integers does.
        skipped: anchor node → why it stays float.
    """

    nodes: list[ir.Node] = field(default_factory=list)
    points: dict[ir.Value, None] = field(default_factory=dict)
    absorbed: list[ir.Node] = field(default_factory=list)
    hard_swish: list[ir.Node] = field(default_factory=list)
    clamps: list[ir.Node] = field(default_factory=list)
    shared: dict[ir.Value, ir.Value] = field(default_factory=dict)
    joined: dict[ir.Value, frozenset[ir.Value]] = field(default_factory=dict)
    reads: dict[ir.Value, list[tuple[ir.Node, int]]] = field(default_factory=dict)
    skipped: dict[ir.Node, str] = field(default_factory=dict)


def plan_ort_cpu(
    graph: ir.Graph, keep_float: frozenset[str] = frozenset(), *, float_adds: bool = False, float_head: bool = False
) -> Plan:
    """Decide for every node of a prepared float graph.

    ``graph``: as :func:`deploykit.quantization.qdq.prepare.prepare` leaves it. ``float_adds``: residual sums stay
    float, so that rounding does not pile up along the skips. ``float_head``: the last Gemm or MatMul stays float.
    """
    plan = Plan()
    for node in graph:
        why = _why_float(node, keep_float, plan)
        if why is None and float_adds and node.op_type == "Add":
            why = "residual sums stay float"
        if why is None and float_head and node.op_type in ("Gemm", "MatMul") and leads_to_output(node.outputs[0]):
            why = "the classifier stays float"
        if why is not None:
            if node.op_type in ANCHORS:
                plan.skipped[node] = why
            continue
        plan.nodes.append(node)
        if node.op_type == "HardSwish":
            plan.hard_swish.append(node)
        for _, value in activation_inputs(node):
            plan.points.setdefault(value)
            if (source := _rearranged(value)) is not None:
                plan.shared.setdefault(value, source)
        _place_output(node, plan)
    _leave_products_unrounded(plan)
    _join_concatenated(plan)
    return plan


def _leave_products_unrounded(plan: Plan) -> None:
    """No Q behind a Gemm or MatMul that only float nodes read: its integer kernel writes float at no extra cost.

    Rounding it only to read it as float again costs two passes over it, and its error.
    """
    integer = set(plan.nodes)
    for node in plan.nodes:
        out = node.outputs[0]
        if node.op_type in ("Gemm", "MatMul") and not any(use.node in integer for use in out.uses()):
            plan.points.pop(out, None)


def join(groups: dict[ir.Value, set[ir.Value]], values: Iterable[ir.Value]) -> None:
    """Put ``values``, with all that are joined to one of them, into one group."""
    merged: set[ir.Value] = set()
    for value in values:
        merged |= groups.get(value, {value})
    for value in merged:
        groups[value] = merged


def _join_concatenated(plan: Plan) -> None:
    """One scale for the inputs and the output of each Concat, which then copies integers and need not look each one up.

    What only the Concat reads loses nothing by it: its integers would be rounded to the output's scale anyway. Where
    the Q behind the Concat takes an activation over, that Q has the activation's own range: the kernel looks each up.
    """
    groups: dict[ir.Value, set[ir.Value]] = {}
    # A wider range would undo the upper bound that a Q took over.
    own = {node.outputs[0] for node in plan.absorbed if node.op_type != "Relu"}
    for node in plan.nodes:
        if node.op_type == "Concat" and node.outputs[0] in plan.points:
            sources = {plan.shared.get(value, value) for _, value in activation_inputs(node)}
            join(groups, (*sorted(sources - own, key=lambda one: one.name or ""), node.outputs[0]))
    plan.joined.update({value: frozenset(group) for value, group in groups.items()})


def why_anchor_float(node: ir.Node, keep_float: frozenset[str] = frozenset()) -> str | None:
    """Why a Conv, Gemm or MatMul cannot run on integers, or None where it can."""
    if (node.name or "") in keep_float:
        return "kept float on request"
    if constant(node.inputs[1]) is None:
        return "its weight is computed at run time"
    if len(node.inputs) > 2 and node.inputs[2] is not None and constant(node.inputs[2]) is None:
        return "its bias is computed at run time"
    if node.op_type == "Gemm" and (attribute(node, "alpha", 1.0) != 1.0 or attribute(node, "beta", 1.0) != 1.0):
        return "Gemm with alpha or beta other than 1 has no integer kernel"
    return None


def _why_float(node: ir.Node, keep_float: frozenset[str], plan: Plan) -> str | None:
    if node.op_type in ANCHORS:
        return why_anchor_float(node, keep_float)
    if (node.name or "") in keep_float:
        return "kept float on request"
    if node.op_type == "HardSwish":
        source = node.inputs[0]
        alone = source is not None and only_reader(source) is node and source in plan.points
        return None if alone else "its input is float, or read elsewhere too"
    if node.op_type not in INTEGER_KERNELS and upper_bound(node) is None:
        return f"{node.op_type} has no integer kernel"
    inputs = [value for _, value in activation_inputs(node)]
    constants = [value for value in node.inputs if value is not None and value.const_value is not None]
    if node.op_type in ("Add", "Mul") and constants:
        return "a constant operand"
    if not inputs or any(value not in plan.points for value in inputs):
        return "its input is float"
    return None


def _rearranged(value: ir.Value) -> ir.Value | None:
    """The value that ``value`` is a zero-padded or rearranged copy of; every range holds 0, so both have one range."""
    node = value.producer()
    if node is not None and node.op_type == "SpaceToDepth":
        return node.inputs[0]
    if node is None or node.op_type != "Pad" or attribute(node, "mode", "constant") != "constant":
        return None
    filler = constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    return node.inputs[0] if filler is None or float(filler) == 0.0 else None


def _place_output(node: ir.Node, plan: Plan) -> None:
    out = node.outputs[0]
    if node.op_type in (*SAME_SCALE, "Min"):
        source = next(value for _, value in activation_inputs(node))
        if node.op_type == "Min":
            plan.clamps.append(node)
        plan.points.setdefault(out)
        plan.shared[out] = plan.shared.get(source, source)
        return
    if node.op_type in ("Gemm", "MatMul") and leads_to_output(out):
        return
    reader = only_reader(out)
    if reader is not None and (
        is_clamp_at_zero(reader) or (reader.op_type == "HardSigmoid" and node.op_type == "Conv")
    ):
        plan.absorbed.append(reader)
        plan.points.setdefault(reader.outputs[0])
    else:
        plan.points.setdefault(out)


def leads_to_output(value: ir.Value) -> bool:
    """Whether ``value`` is an output of the graph and nothing else."""
    return value.is_graph_output() and not list(value.uses())


def is_clamp_at_zero(node: ir.Node) -> bool:
    """Whether a Q with zero point 0 (and a range within the node's upper bound) does what this node does."""
    if node.op_type == "Relu":
        return True
    if node.op_type != "Clip":
        return False
    low = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    high = node.inputs[2] if len(node.inputs) > 2 else None
    return low is not None and float(low) == 0.0 and (high is None or constant(high) is not None)
