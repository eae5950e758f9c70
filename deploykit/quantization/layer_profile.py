"""Where the time of a quantized network goes, layer by layer beside its float original, from ONNX Runtime's profiles.

A profile names kernels after nodes or after the tensors they make, with what fusion and layout rewriting append
(``_nchwc``, ``_token_3``, ``.mul``). A layer is a convolution or matrix product with all that follows it up to the next.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import onnx_ir as ir

from deploykit.quantization.qdq.graph import activation_inputs
from deploykit.quantization.qdq.placement_ort_cpu import ANCHORS

MOVES = ("ReorderInput", "ReorderOutput", "Transpose", "SpaceToDepth", "QuantizeLinear", "DequantizeLinear", "Cast")
_ADDED = re.compile(r"(_nchwc|_nhwc|_token_\d+|_quant)+$")
_LAST = re.compile(r"[./][^./]*$|^[^./]*$")


@dataclass(frozen=True)
class LayerTime:
    """One layer's time in both networks.

    Attributes:
        layer: node name.
        float_us: median microseconds a call in the float network, with what follows it.
        int8_us: in the quantized one.
    """

    layer: str
    float_us: float
    int8_us: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {key: round(value, 2) if isinstance(value, float) else value for key, value in asdict(self).items()}


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
) -> dict[str, Any]:
    """Which layers are slower as integers.

    Args:
        model: the prepared float network.
        float_times: of its profile.
        int8_times: of the quantized network's.

    Returns:
        ``slower`` (layers that lose, the largest loss first, as :class:`LayerTime`), ``layers`` (how many were compared),
        ``moves_us`` (float and int8: changes of layout, Q and DQ), ``total_us`` (float and int8: all kernels).
    """
    owned = owners(model)
    first, first_moves = by_layer(float_times, owned)
    second, second_moves = by_layer(int8_times, owned)
    both = [LayerTime(layer, first[layer], second[layer]) for layer in first if layer in second]
    slower = sorted((one for one in both if one.int8_us > one.float_us), key=lambda one: one.float_us - one.int8_us)
    return {
        "slower": [one.to_dict() for one in slower],
        "layers": len(both),
        "moves_us": {"float": round(first_moves, 2), "int8": round(second_moves, 2)},
        "total_us": {"float": round(sum(float_times.values()), 2), "int8": round(sum(int8_times.values()), 2)},
    }
