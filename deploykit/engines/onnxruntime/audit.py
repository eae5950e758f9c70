"""What the graph became and where its nodes run."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from deploykit.base.targets import Spec
from deploykit.engines.onnxruntime.session import create_session

_CONVS = ("Conv", "FusedConv", "NhwcFusedConv", "QLinearConv", "ConvInteger")


def audit(session: Any, spec: Spec, threads: int | None) -> dict[str, Any]:
    """Nodes per provider and what kinds of nodes the optimized graph has.

    Args:
        session: that was opened with the assignment recorded.
        spec: of the artifact; it is opened once more to write the optimized graph.
        threads: of the session.

    Returns:
        ``nodes_by_provider``, ``memcpy_nodes``, ``nodes``, ``convs``, ``int8_convs``, ``ops`` (type → count).
        ``nodes_by_provider`` is None where this ONNX Runtime does not tell.
    """
    counts = _ops_of(spec, threads)
    by_provider = _nodes_by_provider(session)
    return {
        "nodes_by_provider": by_provider,
        "memcpy_nodes": counts["MemcpyFromHost"] + counts["MemcpyToHost"],
        "nodes": sum(counts.values()),
        "convs": sum(counts[name] for name in _CONVS),
        "int8_convs": counts["QLinearConv"] + counts["ConvInteger"],
        "ops": dict(sorted(counts.items())),
    }


def _nodes_by_provider(session: Any) -> dict[str, int] | None:
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return None
    counts: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        counts[part.ep_name] += len(part.get_nodes())
    return dict(sorted(counts.items()))


def _ops_of(spec: Spec, threads: int | None) -> Counter[str]:
    """Count the nodes of the graph that really runs, main graph and subgraphs."""
    import onnx

    assert spec.target is not None
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "optimized.onnx"
        create_session(spec.path, spec.target, spec.options, threads, optimized_to=place)
        graph = onnx.load(place, load_external_data=False).graph
    counts: Counter[str] = Counter()
    pending = [graph]
    while pending:
        for node in pending.pop().node:
            counts[node.op_type] += 1
            pending += [one.g for one in node.attribute if one.type == onnx.AttributeProto.GRAPH]
    return counts
