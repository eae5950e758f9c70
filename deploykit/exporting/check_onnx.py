"""Whether an ONNX file is valid and one picture network, asked before a library meets it and says it in its own words.

Builders take constant indices that point outside of what they index, and the engine reads foreign memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import EncodeError  # type: ignore[import-untyped]
from onnx import numpy_helper

from deploykit.base.errors import BadInput, shortened
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.runner import Runner
from deploykit.base.tensor_spec import TensorSpec
from deploykit.engines.inputs import check_shape
from deploykit.exporting.describe_onnx import OnnxFacts, describe_onnx

_DEFAULT_AXIS = 0


def refuse_outside_indices(proto: onnx.ModelProto, name: str) -> None:
    """Refuse Gather and GatherElements whose stored indices lie outside a statically known axis.

    ``proto``: the graph, below 2 GB; where shapes cannot be inferred nothing is refused. ``name``: of the file, for the
    error.

    Raises:
        BadInput: naming the node, the index and the axis.
    """
    shapes: dict[str, list[int | None]] = {}
    for node, indices in _indexed(proto):
        shapes = shapes or _shapes(proto)
        shape = shapes.get(node.input[0])
        axis = next((one.i for one in node.attribute if one.name == "axis"), _DEFAULT_AXIS)
        if shape is None or not -len(shape) <= axis < len(shape) or indices.size == 0:
            continue
        size = shape[axis]
        if size is None:
            continue
        outside = indices[(indices < -size) | (indices >= size)]
        if outside.size:
            raise BadInput(
                f"{name}: {node.op_type} (node {node.name or node.output[0]}) reads outside of {node.input[0]!r}",
                got=f"index {int(outside.flat[0])} on an axis of {size}",
                expected=f"{-size} to {size - 1}",
                fix="Correct the indices in the model and export it again.",
            )


def _indexed(proto: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, np.ndarray]]:
    nodes = [node for node in proto.graph.node if node.op_type in ("Gather", "GatherElements")]
    wanted = {node.input[1] for node in nodes}
    stored = {one.name: one for one in proto.graph.initializer if one.name in wanted}
    constants = [node for node in proto.graph.node if node.op_type == "Constant" and node.output[0] in wanted]
    stored |= {node.output[0]: one.t for node in constants for one in node.attribute if one.name == "value"}
    for node in nodes:
        if node.input[1] in stored:
            yield node, numpy_helper.to_array(stored[node.input[1]])


def _shapes(proto: onnx.ModelProto) -> dict[str, list[int | None]]:
    """Tensor → its dimensions, None where unknown."""
    known: dict[str, list[int | None]] = {one.name: list(one.dims) for one in proto.graph.initializer}
    try:
        graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, ValueError, EncodeError):  # a graph above protobuf's 2 GB
        graph = proto.graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            known.setdefault(value.name, [dim.dim_value if dim.HasField("dim_value") else None for dim in dims])
    return known


FREE = -1
"""How some tools write a size that is not fixed."""
MOST = 250
_AGAIN = "Export or copy it again."
_LEFT_TO_ENGINES = ("No Op registered for", "Field 'shape' of 'type' is required")
"""Operators may be an engine's own (a plugin), and outputs without a shape run."""


def described(path: Path) -> OnnxFacts:
    """Facts of a file that ONNX's checker and its shape inference find valid.

    ``path``: of the ``.onnx``; it may be larger than 2 GB.

    Raises:
        BadInput: not readable, external data missing or elsewhere, invalid (in the checker's words), a newer opset than
            is known, no output, or an input without a shape or with an empty dimension.
    """
    try:
        facts = describe_onnx(path)[0]
    except (IndexError, KeyError, TypeError):
        _check(path)
        raise
    _check(path)
    _check_opset(path, facts["opset"].get("ai.onnx", 0))
    if not facts["outputs"]:
        raise BadInput(f"{path} has no outputs", expected="a graph with at least one output", fix="Export it again.")
    _check_inputs(path)
    return facts


def refuse_unsound(path: Path, *, finite: bool = True) -> None:
    """Refuse a file that no computation can be made of: :func:`described`, finite weights, indices inside.

    ``path``: of the ``.onnx``. ``finite``: whether its weights have to be.

    Raises:
        BadInput: naming what is wrong.
    """
    facts = described(path)
    if finite:
        refuse_not_finite(path, facts)
    refuse_outside_indices(onnx.load(str(path)), str(path))


def refuse_not_finite(path: Path, facts: OnnxFacts) -> None:
    """Refuse weights that hold NaN or infinity, by the facts of the file."""
    if facts["not_finite"]:
        raise BadInput(
            f"{path} holds weights that are not finite",
            got=facts["not_finite"][0],
            fix="One of them spoils every answer: take a checkpoint from before, or train again with a lower rate.",
        )


def known_preprocessing(preprocessing: Preprocessing | None, inputs: Sequence[TensorSpec], path: Path) -> Preprocessing:
    """The preprocessing of a graph that takes images, and nothing else.

    Raises:
        BadInput: several inputs, one that is no image, or a size that nothing tells.
    """
    if preprocessing is not None:
        return preprocessing
    shown = ", ".join(f"{one.name!r} {one.dtype} {list(one.shape)}" for one in inputs)
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise BadInput(
            f"{path} takes no images alone",
            got=shown,
            expected="one input like ['N', 3, 224, 224]",
            fix="`verify` and `benchmark` without --data run any graph.",
        )
    raise BadInput(f"{path} does not say the size of its images", got=shown, fix="Name it with --size.")


def refuse_other_pictures(runner: Runner, x: np.ndarray) -> None:
    """Refuse a network whose input is not what prepared pictures ``x`` are, in any number of them."""
    spec = runner.inputs[0]
    check_shape((spec.fixed_batch or len(x), *x.shape[1:]), x.dtype.name, spec, f"{runner.spec.path}")


def _check(path: Path) -> None:
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        said = _words(str(error))
        if not said.startswith(_LEFT_TO_ENGINES):
            raise BadInput(f"{path} is no valid ONNX file: {said}", fix=_AGAIN) from error


def _words(said: str) -> str:
    """The checker's first complaint: those that follow from it and its brackets are left out."""
    text = " ".join(said.split())
    text = re.sub(r"\[\w*InferenceError\] (?:Inference error\(s\): )?", "", text)
    first = re.split(r" (?=\(op_type:)", text)[0]
    first = re.sub(r"^\(op_type:(\w+), node name: ([^)]*)\):", r"\1 (node \2):", first)
    first = re.sub(r"\.? ==> Context:", ";", first).rstrip(". ")
    return shortened(first, MOST)


def _check_opset(path: Path, opset: int) -> None:
    newest = onnx.defs.onnx_opset_version()
    if opset > newest:
        raise BadInput(
            f"{path} is of an opset that is not known",
            got=f"opset {opset}",
            expected=f"{newest} or lower",
            fix="Export it with a lower --opset.",
        )


def _check_inputs(path: Path) -> None:
    graph: onnx.GraphProto = onnx.load(str(path), load_external_data=False).graph
    stored = {one.name for one in graph.initializer}
    for one in graph.input:
        kind = one.type.tensor_type
        if one.name in stored:
            continue
        if not kind.HasField("shape"):
            raise BadInput(
                f"{path}: the input {one.name!r} has no shape",
                expected="one like [N, 3, 224, 224]",
                fix="Export it with the sizes of its input.",
            )
        dims = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in kind.shape.dim]
        if any(isinstance(dim, int) and dim < 1 and dim != FREE for dim in dims):
            raise BadInput(
                f"{path}: the input {one.name!r} has an empty or negative dimension",
                got=str(dims),
                expected="sizes of at least 1",
                fix="Export it again; a free batch size is --batch dynamic.",
            )
