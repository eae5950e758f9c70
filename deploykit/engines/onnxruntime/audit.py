"""What the graph became and where its nodes run."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from deploykit.base.engine_layers import EngineAudit
from deploykit.base.spec import Spec
from deploykit.engines.onnxruntime.profile import left_over, optimized_graph, origins

if TYPE_CHECKING:
    import onnx

_CONVS = ("Conv", "FusedConv", "NhwcFusedConv", "QLinearConv", "ConvInteger")


def audit(session: Any, spec: Spec, threads: int | None) -> EngineAudit:
    """Nodes per provider, what kinds of nodes the optimized graph has, and the Q and DQ left in it.

    ``session``: that was opened with the assignment recorded. ``spec``: of the artifact; it is opened once more to
    write the optimized graph.

    Returns:
        ``nodes_by_provider``, ``memcpy_nodes``, ``nodes``, ``convs``, ``int8_convs``, ``ops`` (type → count) and ``qdq_left``
        (see :func:`~deploykit.engines.onnxruntime.profile.left_over`).
        ``nodes_by_provider`` is None where this ONNX Runtime does not tell. Of TensorRT's provider it is all there is: it
        compiles the graph into engines of its own.
    """
    import onnx

    ran = optimized_graph(spec, threads)
    if ran is None:
        return {"nodes_by_provider": _nodes_by_provider(session)}
    counts = _ops_of(ran)
    nodes_of = origins(onnx.load(spec.path, load_external_data=False).graph, ran)
    return {
        "nodes_by_provider": _nodes_by_provider(session),
        "memcpy_nodes": counts["MemcpyFromHost"] + counts["MemcpyToHost"],
        "nodes": sum(counts.values()),
        "convs": sum(counts[name] for name in _CONVS),
        "int8_convs": counts["QLinearConv"] + counts["ConvInteger"],
        "ops": dict(sorted(counts.items())),
        "qdq_left": left_over(ran, nodes_of),
    }


def _nodes_by_provider(session: Any) -> dict[str, int] | None:
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return None
    counts: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        counts[part.ep_name] += len(part.get_nodes())
    return dict(sorted(counts.items()))


def _ops_of(ran: onnx.GraphProto) -> Counter[str]:
    """Count the nodes, main graph and subgraphs."""
    import onnx

    counts: Counter[str] = Counter()
    pending = [ran]
    while pending:
        for node in pending.pop().node:
            counts[node.op_type] += 1
            pending += [one.g for one in node.attribute if one.type == onnx.AttributeProto.GRAPH]
    return counts
