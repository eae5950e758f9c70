"""The time of each layer by ONNX Runtime's own profile, with what it is and the nodes of the file that it does."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.base.targets import Spec
from deploykit.engines.onnxruntime.origins import origins
from deploykit.engines.onnxruntime.session import create_session

if TYPE_CHECKING:
    import onnx

RUNS = 30
_KERNEL = "_kernel_time"
_KINDS = {
    "float": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "double": "fp64",
    "int8": "int8",
    "uint8": "int8",
}


def optimized_graph(spec: Spec, threads: int | None) -> onnx.GraphProto | None:
    """The graph that really runs; None where the provider compiles it into something of its own (ort-trt)."""
    import onnx

    assert spec.target is not None
    if spec.target == "ort-trt":
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


def timed_layers(spec: Spec, threads: int | None, x: np.ndarray, runs: int = RUNS) -> list[dict[str, Any]]:
    """Profile a session of its own.

    Args:
        spec: of the artifact.
        threads: intra-op.
        x: one batch, as the engine takes it.
        runs: calls; the first of them is left out.

    Returns:
        In the order they run: ``name``, ``type``, ``precision`` (of the first input), ``time_us`` (median of the calls),
        ``provider``, ``shape`` (of the first output), ``nodes`` (of the file).
    """
    import onnx

    assert spec.target is not None
    ran = optimized_graph(spec, threads)
    nodes_of = {} if ran is None else origins(onnx.load(spec.path, load_external_data=False).graph, ran)
    with tempfile.TemporaryDirectory(prefix="deploykit-profile-") as folder:
        prefix = Path(folder) / "profile"
        session = create_session(spec.path, spec.target, spec.options, threads, profile_to=prefix)
        given = {session.get_inputs()[0].name: x}
        for _ in range(max(runs, 2)):
            session.run(None, given)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times: dict[str, list[float]] = {}
    told: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            name = event["name"].removesuffix(_KERNEL)
            times.setdefault(name, []).append(float(event["dur"]))
            told.setdefault(name, event["args"])
    return [
        _row(name, told[name], float(np.median(found[1:])), nodes_of.get(name, [])) for name, found in times.items()
    ]


def _row(name: str, told: dict[str, Any], time_us: float, nodes: list[str]) -> dict[str, Any]:
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
