"""The network definition before the build: what the builder was given, layer by layer.

This is what can be known of an engine where it cannot be opened: precision of each convolution, Q/DQ pairs, and the
ONNX nodes that each layer comes from. Fusion, tactics and formats are the builder's, and only the engine's own inspector
tells them.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from deploykit.engines.tensorrt.nodes import nodes_of
from deploykit.engines.tensorrt.unfused_qdq import left_over
from deploykit.engines.tensorrt.version import Api

CONVS = ("CONVOLUTION", "DECONVOLUTION")
PRODUCTS = (*CONVS, "MATRIX_MULTIPLY", "EINSUM", "ATTENTION_INPUT")
SHORT = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


def describe_network(api: Api, network: Any) -> dict[str, Any]:
    """Facts of a network definition.

    Returns:
        ``layers`` (name, type, precision, ONNX nodes), ``types`` (type → count), ``precisions`` (of layers that multiply:
        precision → count), ``convs`` and ``int8_convs`` …, ``quantize``/``dequantize`` (their counts), ``qdq_left`` (those expected to fuse
        with nothing, see :mod:`.left_over`) and ``io``.
    """
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


def _row(api: Api, layer: Any, makers: dict[str, Any]) -> dict[str, Any]:
    kind = layer.type.name
    return {
        "name": layer.name,
        "type": kind,
        "precision": _precision(api, layer, makers),
        "nodes": nodes_of(layer.metadata),
    }


def _precision(api: Api, layer: Any, makers: dict[str, Any]) -> str:
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


def _io(api: Api, network: Any, kind: str) -> list[dict[str, Any]]:
    count = network.num_inputs if kind == "input" else network.num_outputs
    tensors = [(network.get_input if kind == "input" else network.get_output)(i) for i in range(count)]
    return [
        {"name": one.name, "mode": kind, "dtype": api.dtype(one.dtype), "shape": list(one.shape)} for one in tensors
    ]
