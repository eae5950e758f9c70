"""A 16-bit graph as a float32 one that rounds every value as the format does.

ONNX Runtime's CPU provider runs fp16 operators in float32 and has none for bf16: an overflow that a GPU would show stays
hidden there (measured: 81,000 instead of infinity). So every 16-bit value is computed in float32 and passed through a pair of
Casts, which ONNX Runtime keeps; sums inside an operator are in float32, as tensor cores do.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LOW = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
EXACT = (
    "Relu", "MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Concat", "Split", "Slice", "Identity",
    "Gather", "Expand", "DepthToSpace", "SpaceToDepth", "GlobalMaxPool",
)  # fmt: skip
"""Operators that give only numbers they were given (or zero): nothing is rounded."""


def emulated(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The float32 graph that answers as ``proto`` does with each 16-bit value rounded; inputs and outputs become float32."""
    typed = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*typed.graph.value_info, *typed.graph.output)}
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    graph = made.graph
    for initializer in graph.initializer:
        if initializer.data_type in LOW:
            array = numpy_helper.to_array(initializer).astype(np.float32)
            initializer.CopyFrom(numpy_helper.from_array(array, initializer.name))
    nodes = list(graph.node)
    del graph.node[:]
    del graph.value_info[:]
    for value in graph.input:
        kind = value.type.tensor_type.elem_type
        if kind in LOW:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
            inner = f"{value.name}/rounded"
            graph.node.extend(_rounding(value.name, inner, kind))
            for node in nodes:
                node.input[:] = [inner if name == value.name else name for name in node.input]
    for node in nodes:
        low = {name: kinds[name] for name in node.output if kinds.get(name) in LOW}
        graph.node.append(node)
        if node.op_type == "Cast" and low:
            next(one for one in node.attribute if one.name == "to").i = TensorProto.FLOAT
        if node.op_type in EXACT:
            continue
        for index, name in enumerate(node.output):
            if name in low:
                graph.node[-1].output[index] = f"{name}/exact"
        for name, kind in low.items():
            graph.node.extend(_rounding(f"{name}/exact", name, kind))
    for value in graph.output:
        if value.type.tensor_type.elem_type in LOW:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return made


def _rounding(source: str, target: str, kind: int) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Cast", [source], [f"{target}/low"], f"{target}/round", to=kind),
        helper.make_node("Cast", [f"{target}/low"], [target], f"{target}/back", to=TensorProto.FLOAT),
    ]
