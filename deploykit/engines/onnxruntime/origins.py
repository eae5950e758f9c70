"""Which nodes of a file each node of the graph that really runs comes from.

ONNX Runtime fuses nodes, folds constants and rewrites layouts. A node of the optimized graph keeps the name of the tensor
it makes, as its output or inside its own name with what the rewriting appends (``relu_1_nchwc``, ``out_token_3``). The
nodes between that tensor and the tensors that other such nodes make are the ones it does.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

_ADDED = re.compile(r"(_nchwc|_nhwc|_token_\d+|_quant)+$")
_LAST = re.compile(r"[./][^./]*$|^[^./]*$")


def origins(source: onnx.GraphProto, ran: onnx.GraphProto) -> dict[str, list[str]]:
    """Name of a node of ``ran`` → names of the nodes of ``source`` that it does, in the file's order.

    A node that ONNX Runtime put in (a change of layout) comes from none.
    """
    graph = _Source(source)
    ends = {node.name: graph.end_of(node) for node in ran.node}
    stops = set(ends.values()) | {name for node in ran.node for name in node.output}
    taken: set[str | None] = {None}
    found: dict[str, list[str]] = {}
    for node in ran.node:
        end = ends[node.name]
        found[node.name] = [] if end is None or end in taken else graph.chain(end, stops)
        taken.add(end)
    return found


class _Source:
    """The file's graph, asked from its tensors."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes = list(graph.node)
        self.makers = {output: place for place, node in enumerate(self.nodes) for output in node.output if output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.named = {node.name: node.output[0] for node in self.nodes if node.name}

    def end_of(self, node: onnx.NodeProto) -> str | None:
        """The tensor of the file that ``node`` makes, or None."""
        found = next((name for name in node.output if name in self.makers), None) or self._by_name(node.name)
        return None if found is None else self._with_fused(node, found)

    def _by_name(self, name: str) -> str | None:
        name = _ADDED.sub("", name)
        while name:
            if name in self.makers:
                return name
            if name in self.named:
                return self.named[name]
            name = _ADDED.sub("", _LAST.sub("", name))
        return None

    def _with_fused(self, node: onnx.NodeProto, end: str) -> str:
        """The end behind the sum and the activation that a convolution of another layout does too."""
        wanted = ["Add"] if node.op_type == "Conv" and len(node.input) > 3 else []
        wanted += [one.s.decode() for one in node.attribute if one.name == "activation"]
        for op in wanted:
            behind = self.readers.get(end, [])
            if self.nodes[self.makers[end]].op_type != op and len(behind) == 1 and behind[0].op_type == op:
                end = behind[0].output[0]
        return end

    def chain(self, end: str, stops: Collection[str | None]) -> list[str]:
        """Names of the nodes between ``end`` and the tensors of ``stops``; one without a name by its first output."""
        found: set[int] = set()
        pending = [end]
        while pending:
            place = self.makers.get(pending.pop())
            if place is not None and place not in found:
                found.add(place)
                pending += [name for name in self.nodes[place].input if name not in stops]
        return [self.nodes[place].name or self.nodes[place].output[0] for place in sorted(found)]


def left_over(ran: onnx.GraphProto, nodes_of: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    """The Q and DQ that became part of no integer kernel and run on their own, each with what keeps it.

    Returns:
        ``name``, ``type``, ``why``, ``needed`` (at the border: a picture or an answer is float, as it must be) and ``beside``
        (nodes of the file around it that compute in float).
    """
    makers = {output: node for node in ran.node for output in node.output if output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in ran.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {one.name for one in ran.output}
    stored = {one.name for one in ran.initializer}
    found = []
    for node in ran.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        maker = makers.get(node.input[0])
        needed, around = False, [one for one in readers.get(node.output[0], []) if one.op_type != "QuantizeLinear"]
        if node.op_type == "QuantizeLinear":
            needed, around = maker is None, [maker] if maker is not None else []
            why = "the picture comes in float" if maker is None else f"{maker.op_type} writes float"
        elif node.output[0] in outputs:
            needed, why = True, "the answer goes out in float"
        elif not around:
            why = "another Q follows, of another scale"
        else:
            ops = " and ".join(sorted({one.op_type for one in around}))
            why = f"{'stored integers, which' if node.input[0] in stored else ''} {ops} reads in float".strip()
        beside = [name for one in around for name in nodes_of.get(one.name, [])]
        found.append({"name": node.name, "type": node.op_type, "why": why, "needed": needed, "beside": beside})
    return found
