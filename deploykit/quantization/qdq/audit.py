"""What of a quantized network runs on integers: really, in the graph that ONNX Runtime optimized, or as offered."""

from __future__ import annotations

from collections import Counter
from typing import Any

import onnx

FLOAT_CONVS = ("Conv", "FusedConv")
FLOAT_PRODUCTS = ("Gemm", "MatMul", "FusedGemm", "FusedMatMul")
INTEGER = ("QGemm", "MatMulIntegerToFloat", "Min", "NhwcMaxPool", "Tile")
MOVES = ("Transpose", "ReorderInput", "ReorderOutput", "QuantizeLinear", "DequantizeLinear")


def share_of_int8(optimized: onnx.ModelProto) -> dict[str, Any]:
    """Counts over an optimized graph.

    Returns:
        ``convs`` (all convolutions), ``int8_convs``, ``float_convs`` (names of those that stayed float),
        ``float_nodes`` (nodes that compute in float), ``reformats`` (transposes, reorders, Q and DQ left over).
    """
    ops = Counter(node.op_type for node in optimized.graph.node)
    int8 = ops["QLinearConv"] + ops["ConvInteger"]
    left = [node.name for node in optimized.graph.node if node.op_type in FLOAT_CONVS]
    integer = sum(count for op, count in ops.items() if op.startswith("QLinear") or op in INTEGER)
    moves = {op: ops[op] for op in MOVES if ops[op]}
    return {
        "convs": int8 + len(left),
        "int8_convs": int8,
        "float_convs": left,
        "float_products": sum(ops[op] for op in FLOAT_PRODUCTS),
        "float_nodes": sum(ops.values()) - integer - sum(moves.values()),
        "reformats": moves,
    }


def offered_int8(quantized: onnx.ModelProto) -> dict[str, Any]:
    """Counts over a Q/DQ file, for an engine that does not run here: what the file offers it as integers.

    Returns:
        ``convs``, ``int8_convs`` (picture and weight come from a DQ) and ``float_convs`` (names of the others).
    """
    dequantized = {out for node in quantized.graph.node if node.op_type == "DequantizeLinear" for out in node.output}
    convs = [node for node in quantized.graph.node if node.op_type == "Conv"]
    left = [node.name for node in convs if not set(node.input[:2]) <= dequantized]
    return {"convs": len(convs), "int8_convs": len(convs) - len(left), "float_convs": left}
