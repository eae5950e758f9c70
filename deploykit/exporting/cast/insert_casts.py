"""Cast a float32 ONNX graph to fp16 or bf16, except the nodes that a plan keeps in float32.

Each value gets at most one Cast to each type, shared by all that read it; weights are converted, once for each type they are
read in. Scales of Q/DQ become numbers that the format has, and int8 weights are rounded anew with them.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import version_converter
from onnx_ir.passes import common

from deploykit.base.errors import BadInput
from deploykit.exporting.cast.cast_plan import Plan, accepts, is_float_value
from deploykit.exporting.cast.formats import Format

LOW = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}
SCALED_FROM = 19
"""The opset from which on the scales of Q/DQ may be 16-bit."""


def opened(proto: onnx.ModelProto, low: Format, name: str = "the model") -> ir.Model:
    """A copy of ``proto`` in the form that is planned and cast: an opset that knows the format, types inferred, names unique.

    Raises:
        BadInput: no float32 graph, subgraphs, an opset that cannot be raised, weights that are not finite.
    """
    proto = _raised(proto, low, name)
    model = ir.from_proto(proto)
    if model.functions:
        common.InlinePass()(model)
    for step in (
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.RemoveInitializersFromInputsPass(),
        common.IdentityEliminationPass(),
        common.DeduplicateInitializersPass(size_limit=1 << 62),
        common.ShapeInferencePass(),
        common.RemoveUnusedNodesPass(),
    ):
        model = step(model).model
    taken: set[str] = set()
    for number, node in enumerate(model.graph):
        if any(
            attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
            for attribute in node.attributes.values()
        ):
            raise BadInput(f"{name} has a {node.op_type} with a graph inside", expected="a graph without control flow")
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}.{number}"
        taken.add(node.name)
    found = {value.dtype for node in model.graph for value in node.outputs}
    if low_types := [one.name for one in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16) if one in found]:
        raise BadInput(f"{name} is not float32 any more", got=", ".join(low_types).lower(), expected="a float32 graph")
    if ir.DataType.FLOAT not in found:
        raise BadInput(f"{name} computes nothing in float32", expected="a float32 graph")
    for value in model.graph.initializers.values():
        tensor = value.const_value if value.dtype == ir.DataType.FLOAT else None
        if tensor is not None and not np.isfinite(tensor.numpy()).all():
            raise BadInput(f"{name}: weight {value.name!r} holds NaN or infinity")
    return model


def _raised(proto: onnx.ModelProto, low: Format, name: str) -> onnx.ModelProto:
    """``proto`` in an opset that has the format in every operator, and in Q/DQ where it has some."""
    opset = next((one.version for one in proto.opset_import if one.domain in ("", "ai.onnx")), 0)
    quantized = any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in proto.graph.node)
    wanted = max(low.opset, SCALED_FROM if quantized else 0)
    if opset >= wanted:
        return proto
    try:
        return version_converter.convert_version(proto, wanted)
    except (RuntimeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(
            f"{name} cannot be brought to opset {wanted}, which {low.name} needs: {reason}",
            got=f"opset {opset}",
            fix=f"Export it with --opset {wanted}.",
        ) from error


def cast(model: ir.Model, plan: Plan, low: Format, *, keep_io: bool) -> ir.Model:
    """Cast, in place.

    ``plan``: what stays float32. ``keep_io``: the graph's inputs and outputs stay float32.
    """
    graph, opset = model.graph, model.graph.opset_imports[""]
    kind = LOW[low.name]
    was_float = {value for node in graph for value in node.outputs if is_float_value(value)}
    was_float |= {value for value in (*graph.inputs, *graph.initializers.values()) if is_float_value(value)}
    now: dict[ir.Value, ir.DataType] = {}
    for value in graph.inputs:
        if value in was_float:
            readers = [use.node for use in value.uses()]
            wide = keep_io or (bool(readers) and all(plan.is_float(node) for node in readers))
            now[value] = ir.DataType.FLOAT if wide else kind
    for node in graph:
        for value in node.outputs:
            if value in was_float:
                now[value] = ir.DataType.FLOAT if plan.is_float(node) else kind
    _snap_scales(graph, plan, low)
    made: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
    for node in list(graph):
        for index, given in enumerate(tuple(node.inputs)):
            if given is None or (given not in was_float and given.dtype != ir.DataType.FLOAT):
                continue
            wanted = kind if not plan.is_float(node) and accepts(node, index, low, opset) else ir.DataType.FLOAT
            node.replace_input_with(index, _as(graph, given, now.get(given), wanted, made, low))
    for typed, dtype in now.items():
        typed.dtype = dtype
        producer = typed.producer()
        if producer is not None and producer.op_type == "Cast":
            producer.attributes["to"] = ir.AttrInt64("to", int(dtype))
    _set_outputs(graph, now, kind, plan, keep_io=keep_io)
    _bypass_same_type(graph)
    for step in (
        common.RemoveUnusedNodesPass(),
        common.DeduplicateInitializersPass(size_limit=1 << 62),
        common.TopologicalSortPass(),
    ):
        model = step(model).model
    return model


def _as(
    graph: ir.Graph,
    value: ir.Value,
    has: ir.DataType | None,
    wanted: ir.DataType,
    made: dict[tuple[ir.Value, ir.DataType], ir.Value],
    low: Format,
) -> ir.Value:
    """``value`` in the wanted type: itself, a converted weight, or the one Cast of it."""
    if value.const_value is not None:
        if wanted == ir.DataType.FLOAT:
            return value
        if (value, wanted) not in made:
            # Finite numbers that the format cannot hold (a mask's −1e9, a Clip's bound) become its largest.
            array = np.clip(value.const_value.numpy(), -low.largest, low.largest).astype(low.dtype)
            fresh = ir.Value(
                name=f"{value.name}.{low.name}", const_value=ir.tensor(array, name=f"{value.name}.{low.name}")
            )
            fresh.shape, fresh.dtype = ir.Shape(array.shape), wanted
            graph.register_initializer(fresh)
            made[value, wanted] = fresh
        return made[value, wanted]
    if has == wanted:
        return value
    if (value, wanted) not in made:
        name = f"{value.name}/{'to_float' if wanted == ir.DataType.FLOAT else f'to_{low.name}'}"
        node = ir.node("Cast", [value], {"to": int(wanted)}, name=name)
        node.outputs[0].name, node.outputs[0].shape, node.outputs[0].dtype = name, value.shape, wanted
        producer = value.producer()
        if producer is not None:
            graph.insert_after(producer, node)
        else:
            graph.insert_before(graph[0], node)
        made[value, wanted] = node.outputs[0]
    return made[value, wanted]


def _set_outputs(
    graph: ir.Graph, now: dict[ir.Value, ir.DataType], kind: ir.DataType, plan: Plan, *, keep_io: bool
) -> None:
    """Outputs keep their names; with ``keep_io`` those that are 16-bit get a Cast behind them."""
    for index, value in enumerate(tuple(graph.outputs)):
        if not keep_io or now.get(value) != kind:
            continue
        name = value.name
        value.name = f"{name}/{'fp16' if kind == ir.DataType.FLOAT16 else 'bf16'}"
        node = ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT)}, name=f"{name}/to_float")
        node.outputs[0].name, node.outputs[0].shape, node.outputs[0].dtype = name, value.shape, ir.DataType.FLOAT
        graph.append(node)
        graph.outputs[index] = node.outputs[0]


def _bypass_same_type(graph: ir.Graph) -> None:
    """Casts of the graph's own that have become casts to the type their input has."""
    for node in list(graph):
        source, out = (node.inputs[0] if node.inputs else None), node.outputs[0]
        if node.op_type == "Cast" and source is not None and source.dtype == out.dtype and not out.is_graph_output():
            out.replace_all_uses_with(source)
            graph.remove(node, safe=True)


def _snap_scales(graph: ir.Graph, plan: Plan, low: Format) -> None:
    """Make the scales of Q/DQ that become 16-bit numbers of the format, and round int8 weights anew with them.

    Rounding a scale up by at most half a unit of the format keeps every weight's integer inside its range; what a small scale
    would lose, because the format has few numbers near zero, the new integers take up.
    """
    snapped: dict[ir.Value, np.ndarray] = {}
    for node in graph:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or plan.is_float(node):
            continue
        scale = node.inputs[1]
        if scale is None or scale.const_value is None or scale.dtype != ir.DataType.FLOAT:
            continue
        if scale not in snapped:
            snapped[scale] = _rounded_up(scale.const_value.numpy(), low)
        weight = node.inputs[0]
        assert weight is not None
        if weight.const_value is not None and weight.const_value.numpy().dtype == np.int8:
            node.replace_input_with(0, _rounded_again(graph, node, weight, scale.const_value.numpy(), snapped[scale]))
    for scale, array in snapped.items():
        scale.const_value = ir.tensor(array, name=scale.name)


def _rounded_up(scale: np.ndarray, low: Format) -> np.ndarray:
    """The next number of the format that is not below each scale, float32."""
    near = scale.astype(low.dtype)
    up = np.nextafter(near, np.asarray(np.inf, low.dtype))
    found = np.where(near.astype(np.float32) < scale, up, near).astype(np.float32)
    return np.maximum(found, np.float32(low.smallest)).astype(np.float32)


def _rounded_again(graph: ir.Graph, node: ir.Node, weight: ir.Value, before: np.ndarray, after: np.ndarray) -> ir.Value:
    assert weight.const_value is not None
    array = weight.const_value.numpy()
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
    ratio = (before.astype(np.float64) / after.astype(np.float64)).reshape(-1)
    if ratio.size > 1:
        ratio = ratio.reshape([-1 if place == axis % array.ndim else 1 for place in range(array.ndim)])
    fresh = np.clip(np.rint(array * ratio), -128, 127).astype(np.int8)
    if np.array_equal(fresh, array):
        return weight
    value = ir.Value(name=f"{weight.name}.rounded", const_value=ir.tensor(fresh, name=f"{weight.name}.rounded"))
    value.shape, value.dtype = ir.Shape(fresh.shape), ir.DataType.INT8
    graph.register_initializer(value)
    return value
