"""What is in an ONNX file, as facts and layers. External data are read one tensor at a time, and only to look for NaN."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, numpy_helper

from deploykit.base.errors import BadInput

if TYPE_CHECKING:
    from deploykit.models.describe_model import FileLayer

PRECISIONS: dict[int, str] = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.BFLOAT16: "bf16",
    TensorProto.DOUBLE: "fp64",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "int8",
    TensorProto.FLOAT8E4M3FN: "fp8",
}
INTEGER_OPS = ("QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger")
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", *INTEGER_OPS)


class OnnxTensor(TypedDict):
    """An input or output of a graph; a dimension is a name where it is dynamic, "?" where it has none."""

    name: str
    dtype: str
    shape: list[int | str]


class OnnxFacts(TypedDict):
    """What is in an ONNX file.

    ``nodes``: without those of subgraphs. ``params``: also those in Constant nodes and subgraphs. ``precision``: precision →
    layers. ``macs``: for one image; None where those of a layer are not known, because a size is free.
    ``stated_precision``, ``preprocessing``, ``classes``, ``lineage``: of the metadata. ``external_data``: files that hold
    weights. ``not_finite``: tensors with NaN or infinity.
    """

    opset: dict[str, int]
    ir_version: int
    producer: str
    inputs: list[OnnxTensor]
    outputs: list[OnnxTensor]
    nodes: int
    operators: dict[str, int]
    params: int
    macs: int | None
    precision: dict[str, int]
    stated_precision: str | None
    preprocessing: Any
    task: str | None
    classes: Any
    lineage: Any
    external_data: list[str] | None
    not_finite: list[str]


Shapes = Mapping[str, Sequence[int]]


def describe_onnx(path: Path, named: Shapes = MappingProxyType({})) -> tuple[OnnxFacts, list[FileLayer]]:
    """Facts and layers of an ONNX file.

    ``named``: shapes of inputs whose sizes are free, by name; an only input may be called ``""``.

    Raises:
        BadInput: no ONNX, damaged, or external data missing, short or outside the file's folder.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError, RuntimeError) as error:
        raise BadInput(f"{path} is no readable ONNX file: {error}", fix="Is it truncated?") from error
    if model.graph.node and not model.opset_import:
        raise BadInput(f"{path} does not say its opset", fix="Export it again.")
    if not model.graph.node:
        raise BadInput(f"{path} is no ONNX file: it has no graph")
    operators = Counter(node.op_type for node in model.graph.node)
    lift_constants(model)
    external = _external(model, path)
    metadata = {prop.key: prop.value for prop in model.metadata_props}
    shapes = _shapes(model, named)
    layers = _layers(model, shapes)
    macs = [layer["macs"] for layer in layers]
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    facts: OnnxFacts = {
        "opset": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "ir_version": model.ir_version,
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "inputs": [_value(value) for value in model.graph.input if value.name not in initializers],
        "outputs": [_value(value) for value in model.graph.output],
        "nodes": operators.total(),
        "operators": dict(operators.most_common()),
        "params": sum(int(np.prod(tensor.dims)) for graph in graphs_of(model.graph) for tensor in graph.initializer),
        "macs": None if None in macs else sum(one for one in macs if one is not None) or None,
        "precision": dict(Counter(layer["precision"] for layer in layers)),
        "stated_precision": metadata.get("deploykit.precision"),
        "preprocessing": _read(metadata, "deploykit.preprocessing"),
        "task": metadata.get("deploykit.task"),
        "classes": _read(metadata, "deploykit.classes"),
        "lineage": _read(metadata, "deploykit.lineage"),
        "external_data": external or None,
        "not_finite": _not_finite(model, path),
    }
    return facts, layers


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph itself, then those inside its nodes (the branches of If, the bodies of Loop and Scan)."""
    yield graph
    for node in graph.node:
        for one in node.attribute:
            for inner in (*one.graphs, *([one.g] if one.type == onnx.AttributeProto.GRAPH else [])):
                yield from graphs_of(inner)


def lift_constants(model: onnx.ModelProto) -> None:
    """Make initializers of the Constant nodes that hold a tensor, in place, in subgraphs too."""
    for graph in graphs_of(model.graph):
        for node in [one for one in graph.node if one.op_type == "Constant" and one.domain in ("", "ai.onnx")]:
            value = next((one.t for one in node.attribute if one.name == "value"), None)
            if value is not None:
                value.name = node.output[0]
                graph.initializer.append(value)
                graph.node.remove(node)


def _external(model: onnx.ModelProto, path: Path) -> list[str]:
    names = set[str]()
    for tensor in model.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        entry = {one.key: one.value for one in tensor.external_data}
        place = entry.get("location", "")
        inside = (path.parent / place).resolve()
        if not place or not inside.is_relative_to(path.parent.resolve()):
            raise BadInput(f"{path} names external data outside its folder", got=place, expected="a file beside it")
        if not inside.is_file():
            raise BadInput(
                f"{path} needs its external data {place}, which is not there", fix="Copy both files together."
            )
        end = int(entry.get("offset", 0)) + int(entry.get("length", 0))
        if inside.stat().st_size < end:
            raise BadInput(
                f"{place}, the external data of {path}, is truncated", got=inside.stat().st_size, expected=end
            )
        names.add(place)
    return sorted(names)


def _shapes(model: onnx.ModelProto, named: Shapes) -> dict[str, tuple[int, list[int]]]:
    """Tensor name → (element type, shape) for a batch of 1; 0 where a dimension is not known."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    stored = {tensor.name for tensor in model.graph.initializer}
    given = [value for value in copy.graph.input if value.name not in stored]
    for value in given:
        dims = value.type.tensor_type.shape.dim
        for place, size in enumerate(_named(value.name, named, alone=len(given) == 1, rank=len(dims))):
            dims[place].dim_value = size
        for dim in dims:
            if dim.dim_value < 0:
                dim.Clear()
        if dims and not dims[0].dim_value:
            dims[0].dim_value = 1
    del copy.graph.value_info[:]
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        copy = onnx.shape_inference.infer_shapes(copy, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):  # a graph it cannot follow still has nodes
        copy = model
    known = {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in model.graph.initializer}
    for value in (*copy.graph.input, *copy.graph.value_info, *copy.graph.output):
        kind = value.type.tensor_type
        known[value.name] = (kind.elem_type, [dim.dim_value for dim in kind.shape.dim])
    return known


def _named(name: str, named: Shapes, *, alone: bool, rank: int) -> Sequence[int]:
    """The shape that was named for an input, or nothing."""
    shape = named.get(name, named.get("", ()) if alone else ())
    if shape and len(shape) != rank:
        raise BadInput(f"--shape contradicts the graph's input {name!r}", got=list(shape), expected=f"{rank} sizes")
    return shape


def _layers(model: onnx.ModelProto, shapes: dict[str, tuple[int, list[int]]]) -> list[FileLayer]:
    makers = {output: node for node in model.graph.node for output in node.output}
    layers: list[FileLayer] = []
    for node in model.graph.node:
        if node.op_type not in LAYERS:
            continue
        weight_name = node.input[3] if node.op_type in ("QLinearConv", "QLinearMatMul") else node.input[1]
        weight = shapes.get(_source(weight_name, makers), (0, []))
        out = shapes.get(node.output[0], (0, []))[1]
        layers.append(
            {
                "name": node.name or node.output[0],
                "type": node.op_type,
                "precision": _precision(node, makers, shapes),
                "params": int(np.prod(weight[1])) if weight[1] else 0,
                "macs": _macs(node, weight[1], shapes, out),
                "shape": out,
            }
        )
    return layers


def _source(name: str, makers: dict[str, onnx.NodeProto]) -> str:
    """The tensor behind Q/DQ, transposes and casts."""
    while (node := makers.get(name)) is not None and node.op_type in (
        "DequantizeLinear",
        "QuantizeLinear",
        "Transpose",
        "Cast",
        "Identity",
    ):
        name = node.input[0]
    return name


def _precision(
    node: onnx.NodeProto, makers: dict[str, onnx.NodeProto], shapes: dict[str, tuple[int, list[int]]]
) -> str:
    if node.op_type in INTEGER_OPS:
        return "int8"
    quantized = [name in makers and makers[name].op_type == "DequantizeLinear" for name in node.input[:2]]
    if all(quantized):
        scales = makers[node.input[1]]
        kind = shapes.get(scales.input[2], (0, []))[0] if len(scales.input) > 2 else TensorProto.INT8
        return PRECISIONS.get(kind, "int8")
    for name in (*node.input[:2], *node.output[:1]):
        if (kind := shapes.get(name, (0, []))[0]) in PRECISIONS:
            return PRECISIONS[kind] + (" (weights quantized)" if quantized[1] else "")
    return "unknown"


def _macs(
    node: onnx.NodeProto, weight: list[int], shapes: dict[str, tuple[int, list[int]]], out: list[int]
) -> int | None:
    if not out or 0 in out:
        return None
    if node.op_type in ("Conv", "QLinearConv", "ConvInteger"):
        return int(np.prod(out)) * int(np.prod(weight[1:])) if weight else None
    if node.op_type == "ConvTranspose":
        given = shapes.get(node.input[0], (0, []))[1]
        return int(np.prod(given)) * int(np.prod(weight[1:])) if weight and given and 0 not in given else None
    left = shapes.get(node.input[0], (0, []))[1]
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return int(np.prod(out)) * left[0 if transposed else -1] if left else None


def _value(value: onnx.ValueInfoProto) -> OnnxTensor:
    kind = value.type.tensor_type
    free = [not dim.HasField("dim_value") or dim.dim_value < 0 for dim in kind.shape.dim]
    shape = [
        dim.dim_param or ("?" if any_size else dim.dim_value)
        for dim, any_size in zip(kind.shape.dim, free, strict=True)
    ]
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)).name if kind.elem_type else "unknown"
    return {"name": value.name, "dtype": dtype, "shape": shape}


def _read(metadata: dict[str, str], key: str) -> Any:
    if key not in metadata:
        return None
    try:
        return json.loads(metadata[key])
    except ValueError:
        return f"unreadable: {metadata[key][:60]}"


def _not_finite(model: onnx.ModelProto, path: Path) -> list[str]:
    found = []
    for tensor in (one for graph in graphs_of(model.graph) for one in graph.initializer):
        if PRECISIONS.get(tensor.data_type) in ("fp32", "fp16", "fp64"):
            try:
                values = numpy_helper.to_array(tensor, str(path.parent))
            except (ValueError, RuntimeError, OSError, onnx.checker.ValidationError) as error:
                raise BadInput(f"{path}: the tensor {tensor.name} cannot be read: {error}") from error
            if not np.isfinite(values).all():
                found.append(tensor.name)
    return found
