"""What an ONNX graph of another tool tells by itself: its inputs and outputs, whether it normalizes, where it ends.

Only files that carry neither manifest nor metadata are looked at: importing onnx takes time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deploykit.base.overrides import Values
from deploykit.base.tensor_spec import TensorSpec, layout_of

if TYPE_CHECKING:
    import onnx

_SAME_VALUES = {"Cast", "Transpose", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten"}
_AFTER_SIGMOID = _SAME_VALUES | {"QuantizeLinear", "DequantizeLinear"}
_LEAST_STEP = 1 / 16  # a graph that shrinks its input more takes bytes: 1/255, 1/127.5, 1/58
_MOST_OFFSET = 2.0  # and so does one that subtracts more than any value in 0…1


@dataclass(frozen=True)
class Declared:
    """What an engine's file declares by itself: its inputs and outputs, and the ``deploykit.*`` entries inside it.

    ``normalizes``: looks at its graph: which values it normalizes itself, or None.
    """

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    metadata: Mapping[str, str] = field(default_factory=dict)
    normalizes: Callable[[], Values | None] = lambda: None


def declared_by(path: Path) -> Declared:
    """Inputs (without initializers), outputs and metadata of an ``.onnx`` file."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    stored = {tensor.name for tensor in model.graph.initializer}
    ends = _ends_in_sigmoid(model.graph)
    return Declared(
        tuple(_spec(value) for value in model.graph.input if value.name not in stored),
        tuple(replace(_spec(value), sigmoid=value.name in ends) for value in model.graph.output),
        {entry.key: entry.value for entry in model.metadata_props},
        lambda: _normalizes(model.graph, path),
    )


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    import onnx

    tensor = value.type.tensor_type
    dims = tensor.shape.dim
    shape = tuple(
        dim.dim_value if dim.dim_value > 0 else dim.dim_param or ("batch" if place == 0 else f"dim{place}")
        for place, dim in enumerate(dims)
    )
    kind = tensor.elem_type or onnx.TensorProto.FLOAT
    return TensorSpec(value.name, onnx.helper.tensor_dtype_to_np_dtype(kind).name, shape, layout_of(shape))


def _ends_in_sigmoid(graph: onnx.GraphProto) -> frozenset[str]:
    """The outputs whose last operation is a Sigmoid, whatever only changes shape or type behind it."""
    makers = {name: node for node in graph.node for name in node.output}

    def ends(name: str) -> bool:
        node = makers.get(name)
        while node is not None and node.op_type in _AFTER_SIGMOID:
            node = makers.get(node.input[0])
        return node is not None and node.op_type in ("Sigmoid", "QLinearSigmoid")

    return frozenset(value.name for value in graph.output if ends(value.name))


def _normalizes(graph: onnx.GraphProto, path: Path) -> Values | None:
    """Which values the graph takes and normalizes itself; None where its first layer takes the input as it is.

    The operations between the input and the first layer are put together to a·x + b.
    """
    stored = {tensor.name for tensor in graph.initializer}
    name = next((value.name for value in graph.input if value.name not in stored), "")
    constants = _constants(graph, path)
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for given in node.input:
            users.setdefault(given, []).append(node)
    a, b, seen = np.ones(1), np.zeros(1), False
    while len(users.get(name, ())) == 1:
        node = users[name][0]
        step = _affine(node, name, constants)
        if step is None:
            if node.op_type not in _SAME_VALUES:
                break
        else:
            a, b, seen = a.mean() * step[0], b.mean() * step[0] + step[1], True
        name = node.output[0]
    if not seen or not np.all(np.isfinite(a)) or float(np.abs(a).mean()) == 0:
        return None
    step_size, offset = float(np.abs(a).mean()), float(np.abs(b / a).max())
    return "0…255" if step_size <= _LEAST_STEP or offset > _MOST_OFFSET else "0…1"


def _affine(
    node: onnx.NodeProto, name: str, constants: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Factor and summand of a node that is an affine map of ``name`` by constants; None where it is none."""
    if node.op_type == "BatchNormalization" and all(one in constants for one in node.input[1:5]):
        scale, bias, mean, variance = (constants[one].astype(np.float64) for one in node.input[1:5])
        epsilon = next((one.f for one in node.attribute if one.name == "epsilon"), 1e-5)
        factor = scale / np.sqrt(variance + epsilon)
        return factor, bias - mean * factor
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or len(node.input) != 2:
        return None
    first = node.input[0] == name
    value = constants.get(node.input[1] if first else node.input[0])
    if value is None or value.size > 64:
        return None
    number = value.astype(np.float64).reshape(-1)
    if node.op_type == "Add":
        return np.ones(1), number
    if node.op_type == "Sub":
        return (np.ones(1), -number) if first else (-np.ones(1), number)
    if node.op_type == "Mul":
        return number, np.zeros(1)
    return (1 / number, np.zeros(1)) if first and np.all(number != 0) else None


def _constants(graph: onnx.GraphProto, path: Path) -> dict[str, np.ndarray]:
    """The small constants of the graph by name: initializers and Constant nodes."""
    import onnx

    found = [(one.name, one) for one in graph.initializer if np.prod(one.dims, dtype=np.int64) <= 64]
    for node in graph.node:
        if node.op_type == "Constant":
            found += [(node.output[0], one.t) for one in node.attribute if one.name == "value"]
    return {
        name: onnx.numpy_helper.to_array(one, base_dir=str(path.parent))
        for name, one in found
        if one.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16)
    }
