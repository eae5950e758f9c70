"""What a compiled OpenVINO model runs: its layers, and the precision of each."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

INT8 = ("u8", "i8")
CONVS = ("Convolution", "Deconvolution")
NOT_RUN = ("Const", "Input", "Output")
MOVES = ("Reorder", "Transpose", "Reshape", "Convert")


def audit(made: Any, path: Path) -> dict[str, Any]:
    """Count the layers of a compiled model, read from ``path``.

    Returns:
        ``nodes`` (that run), ``convs``, ``int8_convs``, ``fully_connected``, ``int8_fully_connected``, ``reformats``,
        ``precisions`` (precision → nodes), ``ops`` (type → nodes), ``float_convs`` (names of those not in int8, where some are),
        ``qdq_left`` (see :func:`~deploykit.engines.openvino.layers.left_over`).
    """
    ops: Counter[str] = Counter()
    precisions: Counter[str] = Counter()
    dense: Counter[bool] = Counter()
    convs: dict[str, bool] = {}
    for node in made.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        kind, precision = text_of(info["layerType"]), text_of(info["runtimePrecision"])
        if kind in NOT_RUN:
            continue
        ops[kind] += 1
        precisions[precision] += 1
        if kind in CONVS:
            convs[node.get_friendly_name()] = precision in INT8
        if kind in ("FullyConnected", "MatMul"):
            dense[precision in INT8] += 1
    from deploykit.engines.openvino.layers import left_over

    some = any(convs.values())
    return {
        "nodes": sum(ops.values()),
        "convs": len(convs),
        "int8_convs": sum(convs.values()),
        "fully_connected": sum(dense.values()),
        "int8_fully_connected": dense[True],
        "reformats": sum(ops[kind] for kind in MOVES),
        "precisions": dict(sorted(precisions.items())),
        "ops": dict(sorted(ops.items())),
        "float_convs": sorted(name for name, is_int in convs.items() if not is_int) if some else [],
        "qdq_left": left_over(made, path),
    }


def text_of(value: Any) -> str:
    """A run-time fact of a layer as text."""
    return str(value.astype(str) if hasattr(value, "astype") else value)
