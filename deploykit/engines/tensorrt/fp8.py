"""int8 Q/DQ → fp8 (E4M3) Q/DQ: the same places, the same ranges, another grid.

An int8 scale s covers ±127·s. E4M3 covers ±448, so that s·127/448 covers the same range:

    Q_int8(x; s) = round(x / s),  |·| ≤ 127        Q_fp8(x; s·127/448) = E4M3(x·448 / (127·s)),  |·| ≤ 448

Weights are stored as int8 already: they are read as w = q·s and rounded to E4M3 with one scale for each output channel,
which adds the rounding of fp8 (3 bits of mantissa) to that of int8. Source of the format: Micikevicius et al., "FP8
Formats for Deep Learning", 2022.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from deploykit.base.errors import BadInput

INT8_MAX, E4M3_MAX = 127.0, 448.0
LEAST_OPSET = 19
Q, DQ = "QuantizeLinear", "DequantizeLinear"


def to_fp8(model: onnx.ModelProto, name: str, target: str) -> tuple[onnx.ModelProto, int]:
    """Turn a graph's int8 Q/DQ into fp8.

    ``model``: with Q/DQ whose zero points are 0, as the TensorRT dialect has them. ``name``: of the file, for messages.
    ``target``: that is built for, for the mend. Returns a new graph, and how many Q and DQ were turned.

    Raises:
        BadInput: no int8 Q/DQ, a zero point that is not 0, or an opset that does not know fp8.
    """
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if opset < LEAST_OPSET:
        raise BadInput(
            f"{name} is in opset {opset}", expected=f"at least {LEAST_OPSET} for fp8", fix="Export it again."
        )
    made = onnx.ModelProto()
    made.CopyFrom(model)
    stored = {tensor.name: tensor for tensor in made.graph.initializer}
    pairs = [node for node in made.graph.node if node.op_type in (Q, DQ)]
    weights = {node.input[0] for node in pairs if node.op_type == DQ and node.input[0] in stored}
    if not any(node.op_type == Q for node in pairs) and not weights:
        raise BadInput(f"{name} has no int8 Q/DQ", fix=f"Quantize it first: deploykit quantize --target {target}.")
    scales: dict[str, str] = {}
    for node in pairs:
        _zero(made, node, stored, name)
        if node.op_type == DQ and node.input[0] in weights and node.input[0] in stored:
            _weight(stored[node.input[0]], node)
        node.input[1] = _scale(made, stored, node.input[1], scales)
    del made.graph.value_info[:]
    used = {given for node in made.graph.node for given in node.input}
    for tensor in [one for one in made.graph.initializer if one.name not in used]:
        made.graph.initializer.remove(tensor)
    return made, len(pairs)


def _zero(made: onnx.ModelProto, node: onnx.NodeProto, stored: dict[str, TensorProto], name: str) -> None:
    """Give the node a zero point of type fp8: it is what tells Q its output's type."""
    shape: tuple[int, ...] = ()
    if len(node.input) > 2 and node.input[2]:
        zero = numpy_helper.to_array(stored[node.input[2]]) if node.input[2] in stored else None
        if zero is None or zero.any() or zero.dtype != np.int8:
            raise BadInput(
                f"{name}: {node.name} is not in the TensorRT dialect",
                got="a zero point that is not 0, or no int8",
                fix="Quantize the float model with --target tensorrt.",
            )
        shape = zero.shape
    key = "deploykit.fp8_zero" + "".join(f".{dim}" for dim in shape)
    if key not in stored:
        tensor = onnx.helper.make_tensor(key, TensorProto.FLOAT8E4M3FN, shape, bytes(int(np.prod(shape))), raw=True)
        made.graph.initializer.append(tensor)
        stored[key] = made.graph.initializer[-1]
    del node.input[2:]
    node.input.append(key)
    for attribute in [one for one in node.attribute if one.name == "output_dtype"]:
        node.attribute.remove(attribute)


def _weight(tensor: TensorProto, node: onnx.NodeProto) -> None:
    """Round stored int8 weights to E4M3; each step of int8 is 448/127 of fp8's scale."""
    import ml_dtypes

    if tensor.data_type == TensorProto.FLOAT8E4M3FN:
        return
    integers = numpy_helper.to_array(tensor).astype(np.float32)
    rounded = np.clip(integers * (E4M3_MAX / INT8_MAX), -E4M3_MAX, E4M3_MAX).astype(ml_dtypes.float8_e4m3fn)
    name, dims = tensor.name, list(tensor.dims)
    tensor.Clear()
    tensor.name, tensor.data_type = name, TensorProto.FLOAT8E4M3FN
    tensor.dims.extend(dims)
    tensor.raw_data = rounded.tobytes()


def _scale(made: onnx.ModelProto, stored: dict[str, TensorProto], name: str, scales: dict[str, str]) -> str:
    """The name of the scale as fp8 has it, in the type it had."""
    if name not in scales:
        old = numpy_helper.to_array(stored[name])
        new = (old.astype(np.float64) * (INT8_MAX / E4M3_MAX)).astype(old.dtype)
        tensor = numpy_helper.from_array(new, f"{name}.fp8")
        made.graph.initializer.append(tensor)
        stored[tensor.name] = made.graph.initializer[-1]
        scales[name] = tensor.name
    return scales[name]
