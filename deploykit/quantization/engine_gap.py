"""Layers that a target's own engine computes otherwise than their Q and DQ say, and that stay float for it.

Executed as it stands, each Q and DQ a node of its own, a file answers as it is meant to. Where its engine's answers are
further from the float network's by more than ``GAP_DB``, a kernel or fusion of that engine is at fault (OpenVINO 2026.4
made 46 dB 8, where the Q behind a ReduceMax became part of it). With no layer int8 there is no such gap, with all there
is, so halving over the number of layers, in their order, finds one that opens it. That goes back to float, and the search
is repeated until there is no gap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypedDict

import numpy as np
import onnx

from deploykit.base.progress import SILENT, Progress
from deploykit.base.targets import ORT_CPU
from deploykit.quantization.job import Job
from deploykit.quantization.qdq.placement_ort_cpu import ANCHORS
from deploykit.quantization.search import Choice, Quantizer, nearness_db, planned

GAP_DB = 3.0
MOST_LAYERS = 8

Near = Callable[[onnx.ModelProto], float]


class EngineGap(TypedDict):
    """Nearness to float in dB as the graph means it and as the engine computes it, before any layer went back to float
    for it; these layers; and the engine's nearness with them in float.
    """

    meant_db: float
    engine_db: float
    layers: list[str]
    closed_db: float


def for_engine(
    quantizer: Quantizer, choice: Choice, x: np.ndarray, outputs: tuple[np.ndarray, ...], job: Job
) -> tuple[Choice, EngineGap | None]:
    """:func:`close_gap` where another engine than ONNX Runtime answers for candidates; else ``choice`` as it is.

    ``x``: prepared images, float32 [N, C, H, W]. ``outputs``: all of the float network for them.
    """
    if job.opened.engine == ORT_CPU:
        return choice, None
    return close_gap(
        quantizer,
        choice,
        lambda made: nearness_db(outputs, job.opened.outputs(made, x)),
        lambda made: nearness_db(outputs, job.opened.outputs(made, x, as_meant=True)),
        job.progress,
    )


def close_gap(
    quantizer: Quantizer, choice: Choice, engine: Near, meant: Near, progress: Progress = SILENT
) -> tuple[Choice, EngineGap]:
    """``choice``, or it with the layers in float that the engine computes otherwise.

    ``engine``: nearness in dB of a quantized network's answers, computed by the engine that will run the file, to the
    float network's. ``meant``: the same, with Q and DQ executed as they stand.
    """
    made = quantizer.make(choice)
    meant_db, engine_db = meant(made), engine(made)

    def near_db(one: Choice) -> float:
        return engine(quantizer.make(one))

    best, layers, db = choice, list[str](), engine_db
    while db < meant_db - GAP_DB and len(layers) < MOST_LAYERS:
        layer = _opening(quantizer, best, lambda one: near_db(one) < meant_db - GAP_DB)
        if layer is None:
            break
        best, layers = replace(best, keep_float=best.keep_float | {layer}), [*layers, layer]
        db = near_db(best)
    if db <= engine_db:
        best, layers, db = choice, [], engine_db
    if layers:
        progress.say(
            f"{quantizer.dialect.target} computes {', '.join(layers)} otherwise than the file says: "
            f"in float, {db:.1f} dB instead of {engine_db:.1f}"
        )
    elif db < meant_db - GAP_DB:
        progress.warn(
            f"{quantizer.dialect.target} computes this network otherwise than the file says ({db:.1f} dB instead of "
            f"{meant_db:.1f}), and no layer in float changes that"
        )
    return best, {
        "meant_db": round(meant_db, 2),
        "engine_db": round(engine_db, 2),
        "layers": layers,
        "closed_db": round(db, 2),
    }


def _opening(quantizer: Quantizer, choice: Choice, apart: Callable[[Choice], bool]) -> str | None:
    """A layer with which, after those before it, the gap opens; None where there is one with all layers float."""
    _, plan = planned(quantizer.proto, choice, quantizer.dialect)
    layers = [node.name or "" for node in plan.nodes if node.op_type in ANCHORS]

    def first_int8(count: int) -> Choice:
        return replace(choice, keep_float=choice.keep_float.union(layers[count:]))

    low, high = 0, len(layers)
    if not layers or apart(first_int8(0)):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if apart(first_int8(middle)) else (middle, high)
    return layers[low]
