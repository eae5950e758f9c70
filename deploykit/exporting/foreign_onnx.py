"""ONNX files of other tools as compression takes them: float32 graphs of opset 13 or newer, each conversion checked by running both.

Half, bf16 and double graphs become float32: stored tensors, declared types, the targets of Cast and of what makes tensors; a
Cast from float32 to float32 is then an Identity. The function is the same, but computed with more digits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper, version_converter

from deploykit.base.errors import BadInput, Unavailable, shortened
from deploykit.base.overrides import NOTHING_STATED, Stated
from deploykit.base.progress import SILENT, Progress
from deploykit.base.spec import Spec
from deploykit.base.targets import ORT_CPU
from deploykit.evaluation.random_parity import parity_on_random
from deploykit.exporting.describe_onnx import graphs_of

OLDEST = 13
"""Per-channel Q and DQ, and axes as inputs, are of this opset."""
_OLDEST_IR = 4
"""Before, every initializer had to be a graph input."""
NARROW: dict[int, str] = {TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16", TensorProto.DOUBLE: "fp64"}
_MOST_BYTES = (2 << 30) - (64 << 20)
_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
_TYPED = ("to", "dtype")
"""Attributes that name a tensor type: of Cast, of random numbers, of EyeLike."""


def standard_file(source: Path, folder: Path, stated: Stated = NOTHING_STATED, progress: Progress = SILENT) -> Path:
    """``source`` where it is a float32 graph of opset 13 or newer, or holds integers already; else its copy in ``folder`` that is.

    ``stated``: of the file; its size, where the graph leaves it free.

    Raises:
        BadInput: it cannot be converted (the operator is named), or the converted graph computes something else.
    """
    model = onnx.load(str(source), load_external_data=False)
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), OLDEST)
    narrow = _main_type(model)
    quantized = any(node.op_type in _QUANTIZED for graph in graphs_of(model.graph) for node in graph.node)
    turned = _turned_weights(model.graph)
    if quantized or (opset >= OLDEST and narrow is None and model.ir_version >= _OLDEST_IR and not turned):
        return source
    model = onnx.load(str(source))
    said = []
    if narrow is not None:
        to_float32(model)
        said.append(f"it is {narrow}, and is taken up to float32")
    if turned:
        _turn_weights(model.graph)
        said.append(f"{len(turned)} weights are stored as their layer reads them")
    if model.ir_version < _OLDEST_IR:
        model.ir_version = _OLDEST_IR
    if opset < OLDEST:
        model = _of_newer_opset(model, opset, source)
        said.append(f"opset {opset} is converted to {OLDEST}")
    path = folder / f"{source.stem}.float32.onnx"
    onnx.save(model, str(path))
    progress.say(
        f"{source.name}: {' and '.join(said) or 'of an old IR'}; {_checked(source, path, narrow, stated, progress)}"
    )
    return path


def to_float32(model: onnx.ModelProto) -> None:
    """Make every half, bf16 and double tensor of a graph float32, in place; its external data are loaded."""
    for graph in graphs_of(model.graph):
        for tensor in graph.initializer:
            _widen(tensor)
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type in NARROW:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
        for node in graph.node:
            for one in node.attribute:
                for tensor in (*one.tensors, *([one.t] if one.HasField("t") else [])):
                    _widen(tensor)
                if one.name in _TYPED and one.i in NARROW:
                    one.i = TensorProto.FLOAT
    _drop_idle_casts(model)
    for entry in model.metadata_props:
        if entry.key == "deploykit.precision":
            entry.value = "fp32"


def _turned_weights(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The Transposes of stored tensors: TensorFlow keeps a convolution's weights as height, width, inputs, outputs."""
    stored = {one.name for one in graph.initializer}
    return [node for node in graph.node if node.op_type == "Transpose" and node.input[0] in stored]


def _turn_weights(graph: onnx.GraphProto) -> None:
    """Do these Transposes now, in place."""
    stored = {one.name: one for one in graph.initializer}
    for node in _turned_weights(graph):
        order = next((list(one.ints) for one in node.attribute if one.name == "perm"), None)
        array = numpy_helper.to_array(stored[node.input[0]]).transpose(order)
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), node.output[0]))
        graph.node.remove(node)


def _widen(tensor: TensorProto) -> None:
    if tensor.data_type in NARROW:
        array = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _drop_idle_casts(model: onnx.ModelProto) -> None:
    """Casts of what is float32 already, by shape inference, become identities."""
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):  # they cost time and change nothing
        return
    kinds = {one.name: one.data_type for one in graph.initializer}
    kinds |= {one.name: one.type.tensor_type.elem_type for one in (*graph.input, *graph.value_info, *graph.output)}
    for node in model.graph.node:
        if node.op_type == "Cast" and kinds.get(node.input[0]) == TensorProto.FLOAT == node.attribute[0].i:
            node.op_type = "Identity"
            del node.attribute[:]


def _main_type(model: onnx.ModelProto) -> str | None:
    """The precision of most weights, where it is not float32."""
    counts: dict[int, int] = {}
    for graph in graphs_of(model.graph):
        constants = (one.t for node in graph.node if node.op_type == "Constant" for one in node.attribute)
        for tensor in (*graph.initializer, *constants):
            if len(tensor.dims) > 1:
                counts[tensor.data_type] = counts.get(tensor.data_type, 0) + int(np.prod(tensor.dims))
    floats = {kind: n for kind, n in counts.items() if kind in NARROW or kind == TensorProto.FLOAT}
    return NARROW.get(max(floats, key=lambda kind: floats[kind])) if floats else None


def _of_newer_opset(model: onnx.ModelProto, opset: int, source: Path) -> onnx.ModelProto:
    if model.ByteSize() > _MOST_BYTES:
        raise BadInput(f"{source} is too large to be converted from opset {opset}", fix="Export it with a newer opset.")
    try:
        made = version_converter.convert_version(model, OLDEST)
        onnx.checker.check_model(made, full_check=True)
    except (RuntimeError, ValueError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BadInput(
            f"{source}: opset {opset} cannot be converted to {OLDEST}: {shortened(' '.join(str(error).split()), 200)}",
            fix=f"Export it with opset {OLDEST} or newer.",
        ) from error
    if not made.metadata_props:
        made.metadata_props.extend(model.metadata_props)
    return made


def _checked(source: Path, path: Path, narrow: str | None, stated: Stated, progress: Progress) -> str:
    """Run both on random input; what was seen, in words."""
    from deploykit.engines import open_runner

    precision = narrow if narrow in ("fp16", "bf16") else "fp32"
    try:
        with (
            open_runner(Spec(source.stem, source, ORT_CPU), stated=stated) as before,
            open_runner(Spec(path.stem, path, ORT_CPU), stated=stated) as after,
        ):
            parity = parity_on_random(before, after, {}, precision=precision, name=source.name)
    except Unavailable as error:
        return f"not compared with it: {error.line()}"
    if not parity.ok:
        raise BadInput(
            f"{source}: converted to a float32 graph of opset {OLDEST} it computes something else",
            got="; ".join(parity.reasons),
            fix=f"Export it in float32 with opset {OLDEST} or newer.",
        )
    return "identical on random input" if parity.identical else f"SNR {parity.snr_db:.1f} dB on random input"
