"""The time of each layer by ONNX Runtime's own profile, with what it is and the nodes of the file that it does.

ONNX Runtime fuses nodes, folds constants and rewrites layouts. A node of the optimized graph keeps the name of the tensor
it makes, as its output or inside its own name with what the rewriting appends (``relu_1_nchwc``, ``out_token_3``). The
nodes between that tensor and the tensors that other such nodes make are the ones it does.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.base.engine_layers import TimedLayer, UnfusedQdq
from deploykit.base.spec import Spec
from deploykit.base.targets import target_of
from deploykit.engines.onnxruntime.providers import TENSORRT
from deploykit.engines.onnxruntime.session import create_session

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


def left_over(ran: onnx.GraphProto, nodes_of: Mapping[str, list[str]]) -> list[UnfusedQdq]:
    """The Q and DQ that became part of no integer kernel and run on their own, each with what keeps it.

    Returns ``name``, ``type``, ``why``, ``needed`` (at the border: a picture or an answer is float, as it must be) and
    ``beside`` (nodes of the file around it that compute in float).
    """
    makers = {output: node for node in ran.node for output in node.output if output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in ran.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {one.name for one in ran.output}
    stored = {one.name for one in ran.initializer}
    found: list[UnfusedQdq] = []
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


RUNS = 30
_KERNEL = "_kernel_time"
_KINDS = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "double": "fp64", "int8": "int8", "uint8": "int8"}


def optimized_graph(spec: Spec, threads: int | None) -> onnx.GraphProto | None:
    """The graph that really runs; None where the provider compiles it into something of its own (TensorRT's)."""
    import onnx

    assert spec.target is not None
    if target_of(spec.target).provider == TENSORRT:
        return None
    with tempfile.TemporaryDirectory(prefix="deploykit-") as folder:
        place = Path(folder) / "optimized.onnx"
        create_session(spec.path, spec.target, spec.options, threads, optimized_to=place)
        return onnx.load(place, load_external_data=False).graph


def kernel_times(path: Path, statistic: Callable[[Sequence[float]], Any] = np.median) -> dict[tuple[str, str], float]:
    """Microseconds of each kernel of a profile, the median over calls or another ``statistic``: (node, operator) → time.

    The first call, which touches memory for the first time, is left out where there are more.
    """
    events = json.loads(path.read_text(encoding="utf-8"))
    calls: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            key = (event["name"].removesuffix(_KERNEL), event["args"].get("op_name", ""))
            calls[key].append(float(event["dur"]))
    return {key: float(statistic(times[1:] or times)) for key, times in calls.items()}


def timed_layers(spec: Spec, threads: int | None, feed: Mapping[str, np.ndarray], runs: int = RUNS) -> list[TimedLayer]:
    """Profile a session of its own.

    ``feed``: every input by name, as the engine takes it. ``runs``: calls; the first of them is left out. Returns in the order they
    run: ``name``, ``type``, ``precision`` (of the first input), ``time_us`` (median of the calls), ``provider``,
    ``shape`` (of the first output), ``nodes`` (of the file).
    """
    import onnx

    assert spec.target is not None
    ran = optimized_graph(spec, threads)
    nodes_of = {} if ran is None else origins(onnx.load(spec.path, load_external_data=False).graph, ran)
    with tempfile.TemporaryDirectory(prefix="deploykit-profile-") as folder:
        prefix = Path(folder) / "profile"
        session = create_session(spec.path, spec.target, spec.options, threads, profile_to=prefix)
        for _ in range(max(runs, 2)):
            session.run(None, dict(feed))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times: dict[str, list[float]] = {}
    told: dict[str, Mapping[str, Any]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            name = event["name"].removesuffix(_KERNEL)
            times.setdefault(name, []).append(float(event["dur"]))
            told.setdefault(name, event["args"])
    return [
        _row(name, told[name], float(np.median(found[1:])), nodes_of.get(name, [])) for name, found in times.items()
    ]


def _row(name: str, told: Mapping[str, Any], time_us: float, nodes: list[str]) -> TimedLayer:
    kinds = [kind for one in told.get("input_type_shape", []) for kind in one]
    shapes = [shape for one in told.get("output_type_shape", []) for shape in one.values()]
    return {
        "name": name,
        "type": told.get("op_name", ""),
        "precision": _KINDS.get(kinds[0], kinds[0]) if kinds else "unknown",
        "time_us": time_us,
        "provider": told.get("provider", "").removesuffix("ExecutionProvider"),
        "shape": shapes[0] if shapes else None,
        "nodes": nodes,
    }
