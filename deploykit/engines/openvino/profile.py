"""What a compiled OpenVINO model runs: its layers with their precision and time, and the Q and DQ left on their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from deploykit.base.engine_layers import EngineAudit, TimedLayer, UnfusedQdq
from deploykit.engines.openvino.compiled_model import compiled, library

INT8 = ("u8", "i8")
CONVS = ("Convolution", "Deconvolution")
NOT_RUN = ("Const", "Input", "Output")
MOVES = ("Reorder", "Transpose", "Reshape", "Convert")
RUNS = 30
_PRECISIONS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "u8": "int8", "i8": "int8"}


def audit(made: Any, path: Path) -> EngineAudit:
    """Count the layers of a compiled model, read from ``path``.

    Returns:
        ``nodes`` (that run), ``convs``, ``int8_convs``, ``fully_connected``, ``int8_fully_connected``, ``reformats``,
        ``precisions`` (precision → nodes), ``ops`` (type → nodes), ``float_convs`` (names of those not in int8, where some are),
        ``qdq_left`` (see :func:`left_over`).
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


def timed_layers(
    model: Any,
    feed: Mapping[str, np.ndarray],
    options: dict[str, str],
    threads: int | None,
    path: Path,
    runs: int = RUNS,
) -> list[TimedLayer]:
    """Profile a request of its own.

    ``model``: as it was read. ``feed``: every input by name, in the model's order, as it takes it. ``runs``: calls; the first of them is left out.

    Returns:
        In the order they run: ``name``, ``type``, ``precision``, ``time_us`` (median of the calls), ``kernel``, ``shape`` (of
        the first output), ``nodes`` (of the file, where it is an ``.onnx``). Layers that do not run are left out.
    """
    made = compiled(model, [x.shape for x in feed.values()], options, threads, path, profile=True)
    request = made.create_infer_request()
    for place, x in enumerate(feed.values()):
        request.set_input_tensor(place, library().Tensor(x, shared_memory=True))
    times: dict[str, list[float]] = {}
    for _ in range(max(runs, 2)):
        request.infer()
        for one in request.get_profiling_info():
            if one.status == one.Status.EXECUTED:
                times.setdefault(one.node_name, []).append(one.real_time.total_seconds() * 1e6)
    names = _names(path)
    rows: list[TimedLayer] = []
    for node in made.get_runtime_model().get_ordered_ops():
        name, info = node.get_friendly_name(), node.get_rt_info()
        if name in times:
            precision = text_of(info["runtimePrecision"])
            rows.append(
                {
                    "name": name,
                    "type": text_of(info["layerType"]),
                    "precision": _PRECISIONS.get(precision, precision),
                    "time_us": median(times[name][1:] or times[name]),
                    "kernel": text_of(info["primitiveType"]),
                    "shape": list(node.output(0).shape),
                    "nodes": origin(text_of(info["originalLayersNames"]), names),
                }
            )
    return rows


def origin(told: str, names: Collection[str]) -> list[str]:
    """The nodes of the file among OpenVINO's names of what a layer does; its own additions are left out."""
    found = (one.partition("/WithoutBiases")[0] for one in told.split(","))
    return [one for one in dict.fromkeys(found) if one in names]


def left_over(made: Any, path: Path) -> list[UnfusedQdq]:
    """Layers that only quantize, part of no other kernel, each with what it stands behind.

    ``path``: of its file; an ``.xml`` does not tell its Q and DQ. Returns ``name``, ``type``, ``why``, ``needed`` (the
    picture or the answer is float, as it must be) and ``beside``.
    """
    names = _names(path)
    pairs = {name for name, op in names.items() if op in ("QuantizeLinear", "DequantizeLinear")}
    found: list[UnfusedQdq] = []
    for node in made.get_runtime_model().get_ordered_ops():
        own = origin(text_of(node.get_rt_info()["originalLayersNames"]), names)
        if text_of(node.get_rt_info()["layerType"]) in NOT_RUN or not own or not pairs.issuperset(own):
            continue
        info = node.input_value(0).get_node().get_rt_info()
        kind = text_of(info["layerType"])
        behind = {text_of(one.get_node().get_rt_info()["layerType"]) for one in node.output(0).get_target_inputs()}
        needed, why = False, f"{kind} writes float"
        if kind in NOT_RUN:
            needed, why = True, "the picture comes in float"
        elif behind <= set(NOT_RUN):
            needed, why = True, "the answer goes out in float"
        beside = origin(text_of(info["originalLayersNames"]), names)
        found.append({"name": own[0], "type": names[own[0]], "why": why, "needed": needed, "beside": beside})
    return found


def _names(path: Path) -> dict[str, str]:
    """Node of an ``.onnx``, and each tensor that it makes → its operator."""
    if path.suffix.lower() != ".onnx":
        return {}
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    return {name: node.op_type for node in graph.node for name in (node.name, *node.output) if name}
