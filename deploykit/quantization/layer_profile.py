"""Where the time of an int8 network goes, layer by layer beside its float original, from ONNX Runtime's profiles.

A profile names kernels after nodes or after the tensors they make, with what fusion and layout rewriting append
(``_nchwc``, ``_token_3``, ``.mul``). A layer is a convolution or matrix product with all that follows it up to the next.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import TypedDict

import numpy as np
import onnx
import onnx_ir as ir

from deploykit.base.progress import Progress
from deploykit.evaluation.graph_runner import Opened
from deploykit.quantization.qdq.graph import activation_inputs
from deploykit.quantization.qdq.placement_ort_cpu import ANCHORS
from deploykit.quantization.qdq.prepare import prepare

MOVES = ("ReorderInput", "ReorderOutput", "Transpose", "SpaceToDepth", "QuantizeLinear", "DequantizeLinear", "Cast")
_ADDED = re.compile(r"(_nchwc|_nhwc|_token_\d+|_quant)+$")
_LAST = re.compile(r"[./][^./]*$|^[^./]*$")


class LayerTime(TypedDict):
    """One layer's time in both networks.

    ``layer``: node name. ``float_us``: median microseconds a call in the float network, with what follows it.
    ``int8_us``: in the quantized one.
    """

    layer: str
    float_us: float
    int8_us: float


class Compared(TypedDict):
    """Which layers are slower as integers, the largest loss first, of so many compared; ``moves_us`` (changes of layout, Q and
    DQ) and ``total_us`` (all kernels) have ``float`` and ``int8``.
    """

    slower: list[LayerTime]
    layers: int
    moves_us: dict[str, float]
    total_us: dict[str, float]


def owners(model: ir.Model) -> dict[str, str]:
    """Name of a node or tensor of the prepared float network → the layer it belongs to; empty before the first."""
    found: dict[str, str] = {}
    of_value: dict[ir.Value, str] = {}
    for node in model.graph:
        layer = node.name or ""
        if node.op_type not in ANCHORS:
            before = [of_value[value] for _, value in activation_inputs(node) if of_value.get(value)]
            layer = before[0] if before else ""
        found[node.name or ""] = layer
        for value in node.outputs:
            found[value.name or ""] = layer
            of_value[value] = layer
    return found


def by_layer(times: Mapping[tuple[str, str], float], owned: Mapping[str, str]) -> tuple[dict[str, float], float]:
    """Microseconds of each layer, and of what belongs to none: changes of layout, Q and DQ of the input."""
    layers: dict[str, float] = defaultdict(float)
    rest = 0.0
    for (name, op), time in times.items():
        layer = _owner(name, owned)
        if layer and op not in MOVES:
            layers[layer] += time
        else:
            rest += time
    return dict(layers), rest


def _owner(name: str, owned: Mapping[str, str]) -> str:
    name = _ADDED.sub("", name)
    while name:
        if name in owned:
            return owned[name]
        name = _ADDED.sub("", _LAST.sub("", name))
    return ""


def compared(
    model: ir.Model, float_times: Mapping[tuple[str, str], float], int8_times: Mapping[tuple[str, str], float]
) -> Compared:
    """Which layers are slower as integers.

    ``model``: the prepared float network. ``int8_times``: of the quantized network's profile.
    """
    owned = owners(model)
    first, first_moves = by_layer(float_times, owned)
    second, second_moves = by_layer(int8_times, owned)
    both = [layer for layer in first if layer in second]
    slower = sorted((one for one in both if second[one] > first[one]), key=lambda one: first[one] - second[one])
    return {
        "slower": [
            {"layer": one, "float_us": round(first[one], 2), "int8_us": round(second[one], 2)} for one in slower
        ],
        "layers": len(both),
        "moves_us": {"float": round(first_moves, 2), "int8": round(second_moves, 2)},
        "total_us": {"float": round(sum(float_times.values()), 2), "int8": round(sum(int8_times.values()), 2)},
    }


NAMED = 3


def slower_layers(
    opened: Opened, proto: onnx.ModelProto, made: onnx.ModelProto, x: np.ndarray, progress: Progress
) -> Compared:
    """Profile both networks on ``x`` and say which layers lose; see :func:`deploykit.quantization.layer_profile.compared`."""
    found = compared(prepare(proto), opened.profile(proto, x), opened.profile(made, x))
    progress.warn(f"int8 is slower than float on this machine: {in_words(found)}")
    return found


def in_words(found: Compared) -> str:
    """The layers that lose most, or the Q and DQ around them where no layer loses by itself."""
    moves = found["moves_us"]
    worst = [f"{one['layer']} ({one['float_us']:g} → {one['int8_us']:g} µs)" for one in found["slower"][:NAMED]]
    around = f"layout, Q and DQ take {moves['int8']:g} µs, in float {moves['float']:g}"
    return ", ".join([*worst, around])
