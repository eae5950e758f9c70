"""What the builder made of a network: the engine's own inspector, read into counts that compare across versions.

The inspector's JSON changed in TensorRT 11 (``Format/Datatype`` was split, ``Bindings`` renamed): both are read.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from statistics import median
from typing import Any, TypedDict

from deploykit.base.engine_layers import EngineLayer, UnfusedQdq
from deploykit.base.errors import AnswerNo
from deploykit.engines.tensorrt.cuda import Cuda
from deploykit.engines.tensorrt.parse import nodes_of
from deploykit.engines.tensorrt.unfused_qdq import PlanLayer, left_in_engine
from deploykit.engines.tensorrt.version import Api

_CONV = re.compile(r"conv", re.IGNORECASE)
_REFORMAT = re.compile(r"reformat|NoOp|copy", re.IGNORECASE)
_PAIR = re.compile(r"^(?:De)?[Qq]uantize$")
_KINDS = (
    ("int8", re.compile(r"int8", re.IGNORECASE)),
    ("fp8", re.compile(r"fp8|e4m3", re.IGNORECASE)),
    ("fp16", re.compile(r"half|fp16|float16", re.IGNORECASE)),
    ("bf16", re.compile(r"bf16|bfloat", re.IGNORECASE)),
    ("fp32", re.compile(r"float|fp32", re.IGNORECASE)),
)


class PlanAudit(TypedDict):
    """The layers of a plan, and counts as of :class:`~deploykit.base.engine_layers.EngineAudit`."""

    layers: list[EngineLayer]
    convs: int
    int8_convs: int
    fp8_convs: int
    fp16_convs: int
    reformats: int
    fused: int
    qdq_left: list[UnfusedQdq]
    precisions: dict[str, int]


def audit_engine(api: Api, engine: Any, pairs: Collection[str] = ()) -> PlanAudit:
    """Layers of an engine, and counts of what matters.

    ``pairs``: names of the ONNX nodes that quantize and dequantize, where they are known. Returns the layers, and
    counts over them.
    """
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(api.member("LayerInformationFormat", "JSON"))
    return summarize(json.loads(text).get("Layers", []), pairs)


def summarize(layers: list[Any], pairs: Collection[str] = ()) -> PlanAudit:
    """Counts over the inspector's layers; a plan built without detail tells names only."""
    found = [_layer(one, frozenset(pairs)) for one in layers]
    rows = [one.row for one in found]
    convs = Counter(one.row["precision"] for one in found if one.conv)
    return {
        "layers": rows,
        "convs": sum(convs.values()),
        "int8_convs": convs["int8"],
        "fp8_convs": convs["fp8"],
        "fp16_convs": convs["fp16"] + convs["bf16"],
        "reformats": sum(bool(_REFORMAT.search(row["type"] + row["name"])) for row in rows),
        "fused": sum(len(row["nodes"]) > 1 for row in rows),
        "qdq_left": left_in_engine(found),
        "precisions": dict(Counter(row["precision"] for row in rows).most_common()),
    }


def _layer(layer: Any, pairs: frozenset[str]) -> PlanLayer:
    if isinstance(layer, str):
        return PlanLayer({"name": layer, "type": "", "precision": "unknown", "tactic": None, "nodes": []})
    inputs = [one for one in layer.get("Inputs", []) if isinstance(one, dict)]
    outputs = [one for one in layer.get("Outputs", []) if isinstance(one, dict)]
    kind = str(layer.get("LayerType", ""))
    nodes = nodes_of(str(layer.get("Metadata", "")))
    row: EngineLayer = {
        "name": str(layer.get("Name", "")),
        "type": kind,
        "precision": _precision(inputs) if inputs else _precision(outputs),
        "tactic": layer.get("TacticName") or layer.get("TacticValue"),
        "formats": [_format(one) for one in (*inputs, *outputs)],
        "nodes": nodes,
    }
    return PlanLayer(
        row,
        conv=bool(_CONV.search(kind) or _CONV.search(str(layer.get("ParameterType", "")))),
        only_qdq=layer.get("Origin") == "QDQ" or bool(_PAIR.match(kind)) or (bool(nodes) and pairs.issuperset(nodes)),
        inputs=[str(one.get("Name", "")) for one in inputs],
        outputs=[str(one.get("Name", "")) for one in outputs],
    )


def _format(tensor: Mapping[str, object]) -> str:
    """``Format/Datatype`` of TensorRT 10; ``Format`` and ``Datatype`` of 11."""
    parts = [str(tensor[key]) for key in ("Format/Datatype", "Format", "Datatype", "DataType") if key in tensor]
    return " ".join(parts)


def _precision(tensors: Sequence[Mapping[str, object]]) -> str:
    text = _format(tensors[0]) if tensors else ""
    return next((name for name, pattern in _KINDS if pattern.search(text)), "unknown")


def layer_times(api: Api, context: Any, cuda: Cuda, runs: int) -> dict[str, float]:
    """Median milliseconds of each layer over ``runs`` runs, by the context's profiler.

    Raises:
        AnswerNo: the engine does not run, or tells nothing.
    """
    base = api.trt.IProfiler
    times: dict[str, list[float]] = {}

    class Profiler(base):  # type: ignore[misc, valid-type]  # a class of the library at hand
        def __init__(self) -> None:
            base.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            times.setdefault(layer_name, []).append(ms)

    kept = Profiler()
    context.profiler = kept
    try:
        for _ in range(runs):
            if not context.execute_async_v3(cuda.stream):
                raise AnswerNo("the engine did not run under its profiler")
            cuda.wait()
    finally:
        context.profiler = None
    if not times:
        raise AnswerNo("the engine's profiler tells no times of its layers")
    return {name: median(found) for name, found in times.items()}
