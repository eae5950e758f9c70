"""The ONNX nodes that a layer comes from, as the parser writes them into its metadata."""

from __future__ import annotations

import re

_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


def nodes_of(metadata: str) -> list[str]:
    """Names of the nodes; the text itself where it has another form."""
    return _NODE.findall(metadata) or ([metadata] if metadata else [])
