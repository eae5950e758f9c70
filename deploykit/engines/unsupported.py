"""The error for operators that an engine does not know: each with its node, and what to do."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from deploykit.base.errors import BadInput

SHOWN = 6


def unsupported(path: Path, ops: Collection[str], engine: str) -> BadInput:
    """Name the nodes of ``ops`` in an ``.onnx`` file.

    Args:
        path: of the file.
        ops: operators that the engine does not know, without their domain.
        engine: its name, for people.
    """
    nodes = _nodes(path, ops)
    shown = "; ".join(nodes[:SHOWN]) or ", ".join(sorted(ops))
    more = f" (and {len(nodes) - SHOWN} more)" if len(nodes) > SHOWN else ""
    return BadInput(
        f"{path} has operators that {engine} does not know: {shown}{more}",
        fix="Replace them by standard ONNX operators, or compute that outside the network.",
    )


def _nodes(path: Path, ops: Collection[str]) -> list[str]:
    if path.suffix.lower() != ".onnx":
        return []
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    return [f"{node.op_type} (node {node.name or node.output[0]})" for node in graph.node if node.op_type in ops]
