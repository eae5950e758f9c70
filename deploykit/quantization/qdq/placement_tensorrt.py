"""Q/DQ on the inputs of nodes only, for engines that fuse by themselves: TensorRT and OpenVINO.

Such an engine joins a convolution with what follows it (bias, activation, the residual sum) into one kernel, and
reads from the next Q whether that kernel writes integers. A Q between a convolution and its Relu or Add would cut the
kernel in two. So only these inputs are quantized:

* of Conv, Gemm and MatMul with constant weights;
* of a residual Add one: the skip. The other comes straight from a convolution, whose kernel adds the skip in full
  precision;
* of pooling, where nothing else needs the unrounded value;
* of a Concat that only integers read. Its inputs and its output share one scale, so that it merely moves integers;
  likewise MaxPool.
"""

from __future__ import annotations

import onnx_ir as ir

from deploykit.quantization.qdq.graph import activation_inputs, only_reader
from deploykit.quantization.qdq.placement_ort_cpu import ANCHORS, Plan, join, leads_to_output, why_anchor_float

MOVING = ("MaxPool", "Concat")
AVERAGING = ("AveragePool", "GlobalAveragePool")

Read = tuple[ir.Node, int]


def plan_at_inputs(
    graph: ir.Graph, keep_float: frozenset[str] = frozenset(), *, float_adds: bool = False, float_head: bool = False
) -> Plan:
    """Decide for every node of a prepared float graph which of its inputs are read as integers.

    ``graph``: as :func:`deploykit.quantization.qdq.prepare.prepare` leaves it. ``float_adds``: residual sums read the
    unrounded skip. ``float_head``: the last Gemm or MatMul stays float.
    """
    plan = Plan()
    chosen: dict[Read, None] = {}
    for node in graph:
        if node.op_type not in ANCHORS:
            continue
        why = why_anchor_float(node, keep_float)
        if why is None and float_head and node.op_type != "Conv" and leads_to_output(node.outputs[0]):
            why = "the classifier stays float"
        if why is None:
            chosen[node, 0] = None
        else:
            plan.skipped[node] = why
    if not float_adds:
        depth = _depths(graph)
        for node in graph:
            index = skip_of(node, depth) if (node.name or "") not in keep_float else None
            if index is None:
                continue
            other = node.inputs[1 - index]
            conv = other.producer() if other is not None else None
            if conv is not None and (conv, 0) in chosen:
                chosen[node, index] = None
    _follow(graph, keep_float, chosen)
    _collect(graph, plan, chosen)
    return plan


def skip_of(node: ir.Node, depth: dict[ir.Value, int]) -> int | None:
    """Index of the skip among the inputs of a residual Add whose other input is a convolution's, which it alone reads.

    Where both are, as in a block that changes its width, the one with fewer convolutions before it is the skip.
    """
    if node.op_type != "Add" or len(list(activation_inputs(node))) != 2:
        return None
    fusing = [
        value is not None
        and only_reader(value) is node
        and (producer := value.producer()) is not None
        and producer.op_type == "Conv"
        for value in node.inputs
    ]
    if all(fusing):
        first, second = (depth[value] for value in node.inputs if value is not None)
        return 0 if first < second else 1
    return fusing.index(False) if any(fusing) else None


def _depths(graph: ir.Graph) -> dict[ir.Value, int]:
    depth: dict[ir.Value, int] = {}
    for node in graph:
        before = max((depth.get(value, 0) for _, value in activation_inputs(node)), default=0)
        for out in node.outputs:
            depth[out] = before + (node.op_type == "Conv")
    return depth


def _follow(graph: ir.Graph, keep_float: frozenset[str], chosen: dict[Read, None]) -> None:
    """Add pooling and Concat until nothing changes: each depends on what reads it, and on what reads beside it."""
    waiting = [
        node
        for node in graph
        if node.op_type in (*MOVING, *AVERAGING)
        and (node.name or "") not in keep_float
        and not any(out.is_graph_output() for out in node.outputs)
        and len(list(activation_inputs(node))) == len([value for value in node.inputs if value is not None])
    ]
    before = -1
    while len(chosen) != before:
        before = len(chosen)
        for node in reversed(waiting):
            if node.op_type in MOVING and not all((use.node, use.idx) in chosen for use in node.outputs[0].uses()):
                continue
            if node.op_type == "Concat" or _all_round(node, chosen):
                chosen.update(((node, index), None) for index, _ in activation_inputs(node))


def _all_round(node: ir.Node, chosen: dict[Read, None]) -> bool:
    value = node.inputs[0]
    assert value is not None
    return not value.is_graph_output() and all(
        (use.node, use.idx) in chosen or use.node.op_type in (*MOVING, *AVERAGING) for use in value.uses()
    )


def _collect(graph: ir.Graph, plan: Plan, chosen: dict[Read, None]) -> None:
    groups: dict[ir.Value, set[ir.Value]] = {}
    for node in graph:
        reads = [(index, value) for index, value in activation_inputs(node) if (node, index) in chosen]
        if not reads:
            continue
        plan.nodes.append(node)
        for index, value in reads:
            plan.points.setdefault(value)
            plan.reads.setdefault(value, []).append((node, index))
        if node.op_type in MOVING:
            join(groups, (*(value for _, value in reads), node.outputs[0]))
    plan.joined.update({value: frozenset(group) for value, group in groups.items()})
