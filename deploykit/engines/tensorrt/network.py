"""The network definition before the build: what the builder was given, layer by layer, and whether it holds the precision asked for.

This is what can be known of an engine where it cannot be opened: precision of each convolution, Q/DQ pairs, and the
ONNX nodes that each layer comes from. Fusion, tactics and formats are the builder's, and only the engine's own inspector
tells them.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, TypedDict

from deploykit.base.engine_layers import EngineLayer, UnfusedQdq
from deploykit.base.errors import AnswerNo, BadInput
from deploykit.engines.tensorrt.parse import nodes_of
from deploykit.engines.tensorrt.unfused_qdq import Makers, left_over
from deploykit.engines.tensorrt.version import Api

CONVS = ("CONVOLUTION", "DECONVOLUTION")
PRODUCTS = (*CONVS, "MATRIX_MULTIPLY", "EINSUM", "ATTENTION_INPUT")
SHORT = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


class NetworkTensor(TypedDict):
    """An input or output of a network: ``mode`` says which."""

    name: str
    mode: str
    dtype: str
    shape: list[int]


class NetworkFacts(TypedDict):
    """What a network definition holds; ``precisions`` counts the layers that multiply, ``fp16_convs`` bf16 too, ``qdq_left``
    are those expected to fuse with nothing.
    """

    layers: list[EngineLayer]
    types: dict[str, int]
    precisions: dict[str, int]
    convs: int
    int8_convs: int
    fp8_convs: int
    fp16_convs: int
    quantize: int
    dequantize: int
    qdq_left: list[UnfusedQdq]
    io: list[NetworkTensor]


def describe_network(api: Api, network: Any) -> NetworkFacts:
    """Facts of a network definition."""
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    makers = {
        one.get_output(i).name: one for one in layers for i in range(one.num_outputs) if one.get_output(i) is not None
    }
    rows = [_row(api, one, makers) for one in layers]
    products = [row for row in rows if row["type"] in PRODUCTS]
    convs = Counter(row["precision"] for row in rows if row["type"] in CONVS)
    types = Counter(row["type"] for row in rows)
    return {
        "layers": rows,
        "types": dict(types.most_common()),
        "precisions": dict(Counter(row["precision"] for row in products).most_common()),
        "convs": sum(convs.values()),
        "int8_convs": convs["int8"],
        "fp8_convs": convs["fp8"],
        "fp16_convs": convs["fp16"] + convs["bf16"],
        "quantize": types["QUANTIZE"],
        "dequantize": types["DEQUANTIZE"],
        "qdq_left": left_over(layers),
        "io": [*_io(api, network, "input"), *_io(api, network, "output")],
    }


def _row(api: Api, layer: Any, makers: Makers) -> EngineLayer:
    kind = layer.type.name
    return {
        "name": layer.name,
        "type": kind,
        "precision": _precision(api, layer, makers),
        "nodes": nodes_of(layer.metadata),
    }


def _precision(api: Api, layer: Any, makers: Makers) -> str:
    """What a layer multiplies in: the quantized type where all its tensors come from Q/DQ, else the type it writes.

    A convolution without Q/DQ on its weights, or on its picture, computes in float.
    """
    if layer.type.name in PRODUCTS:
        sources = [makers.get(layer.get_input(i).name) for i in range(min(layer.num_inputs, 2)) if layer.get_input(i)]
        if len(sources) == 2 and all(one is not None and one.type.name == "DEQUANTIZE" for one in sources):
            kinds = {api.dtype(one.get_input(0).dtype) for one in sources if one is not None}
            return kinds.pop() if len(kinds) == 1 else "mixed"
    out = layer.get_output(0)
    return "none" if out is None else SHORT.get(api.dtype(out.dtype), api.dtype(out.dtype))


def _io(api: Api, network: Any, kind: str) -> list[NetworkTensor]:
    count = network.num_inputs if kind == "input" else network.num_outputs
    tensors = [(network.get_input if kind == "input" else network.get_output)(i) for i in range(count)]
    return [
        {"name": one.name, "mode": kind, "dtype": api.dtype(one.dtype), "shape": list(one.shape)} for one in tensors
    ]


QUANTIZED = ("int8", "fp8")


def stated(network: NetworkFacts) -> tuple[str, str]:
    """Precision of a network by its layers that multiply, and that of its float part."""
    counts = network["precisions"]
    all_layers = [row["precision"] for row in network["layers"] if row["type"] not in ("CONSTANT", "SHUFFLE", "SHAPE")]
    floats = {one: all_layers.count(one) for one in ("fp32", "fp16", "bf16")}
    products = {one: counts.get(one, 0) for one in ("fp32", "fp16", "bf16")}
    rest = max(products, key=lambda one: (products[one], floats[one]))
    quantized = next((one for one in QUANTIZED if counts.get(one)), None)
    return quantized or rest, rest


def check_precision(
    wanted: str | None, network: NetworkFacts, allow_fallback: bool, path: Any, target: str
) -> str | None:
    """Refuse a network that does not hold the precision asked for.

    ``wanted``: as asked, or None. ``allow_fallback``: accept it anyway. ``path``: of the file, for the message.
    ``target``: that is built for, for the mend. Returns what to say where it is accepted nevertheless.

    Raises:
        AnswerNo: nothing in the network computes in that precision.
    """
    if wanted is None:
        return None
    own, rest = stated(network)
    found = own if wanted in QUANTIZED else rest
    if found == ("fp32" if wanted == "tf32" else wanted):
        return None
    counts = ", ".join(f"{count} in {name}" for name, count in network["precisions"].items()) or "no layer multiplies"
    text = f"{wanted} was asked for, and the network of {path} does not compute in it ({counts})"
    if allow_fallback:
        return f"{text}; accepted by --allow-fallback"
    mend = {
        "int8": f"Quantize it first: deploykit quantize --target {target}.",
        "fp8": f"Quantize it first: deploykit quantize --target {target}; --precision fp8 then turns int8 into fp8.",
    }.get(wanted, "Build from the float32 file, which is cast; or pass --allow-fallback.")
    raise AnswerNo(text, fix=mend)


def refuse_up_cast(wanted: str | None, found: str, path: Any) -> None:
    """Refuse fp32 of a file whose float part is rounded already: casting it back would only hide that.

    Raises:
        BadInput: with the precision of the file.
    """
    if wanted in ("fp32", "tf32") and found in ("fp16", "bf16"):
        raise BadInput(
            f"{path} is in {found} already; {wanted} would not bring back what was rounded",
            fix="Build from the float32 file.",
        )
