"""Bring an exported graph into the form the placement rules know; every rewrite keeps the function.

* constants are initializers, identities and dead nodes are gone;
* BatchNormalization after Conv is folded: ``w' = w·γ/√(σ²+ε)``, ``b' = (b − μ)·γ/√(σ²+ε) + β``;
* ``ReduceMean`` over height and width (the dynamo exporter's pooling) is ``GlobalAveragePool``, with a ``Reshape``
  behind it where ``keepdims=0``;
* ``AveragePool`` behind a 1×1 convolution stands before it: both are linear, and the convolution then makes fewer outputs;
* ``Clip(x, 0, ∞)`` is ``Relu``; each Conv has a bias; every node has a name of its own.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from deploykit.base.errors import BadInput
from deploykit.quantization.qdq.graph import attribute, constant, new_constant, new_node, only_reader

QUANTIZED_OPS = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
MOST_BYTES = (2 << 30) - (64 << 20)  # a protobuf message ends at 2 GiB; Q, DQ and padding need room too


def prepare(proto: onnx.ModelProto, name: str = "the model") -> ir.Model:
    """A rewritten copy of ``proto``.

    Raises:
        BadInput: already quantized, more than one input, control flow, opset below 13, 2 GB or more, weights that are not finite.
    """
    found = sorted({node.op_type for node in proto.graph.node if node.op_type in QUANTIZED_OPS})
    if found:
        raise BadInput(f"{name} is already quantized", got=", ".join(found), expected="a float model")
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < 13:
        raise BadInput(f"{name} has an old opset", got=opset, expected="13 or newer", fix="Export it again.")
    size = proto.ByteSize()
    if size > MOST_BYTES:
        raise BadInput(
            f"{name} is too large to quantize",
            got=f"{size / 1e9:.2f} GB",
            expected=f"less than {MOST_BYTES / 1e9:.2f} GB",
        )
    model = ir.from_proto(proto)
    for step in (
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.RemoveInitializersFromInputsPass(),
        common.IdentityEliminationPass(),
        common.ShapeInferencePass(),
        common.RemoveUnusedNodesPass(),
    ):
        model = step(model).model
    for node in model.graph:
        if any(one.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for one in node.attributes.values()):
            raise BadInput(
                f"{name} has control flow: {node.op_type} (node {node.name or node.outputs[0].name}) with a graph inside",
                expected="a graph without control flow",
                fix="Export the model with that decision made.",
            )
    if len(model.graph.inputs) != 1:
        raise BadInput(f"{name} has {len(model.graph.inputs)} inputs", expected="one picture input")
    for value in model.graph.initializers.values():
        array = constant(value)
        if array is not None and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BadInput(
                f"{name}: weight {value.name!r} holds NaN or infinity",
                fix="Take a checkpoint from before, or train again with a lower rate.",
            )
    _name_nodes(model.graph)
    rules = (_fold_batch_norm, _pool_of_reduce_mean, _pool_first, _fold_batch_norm, _relu_of_clip, _bias_everywhere)
    for rule in rules:
        for node in list(model.graph):
            rule(model.graph, node)
    return common.RemoveUnusedNodesPass()(model).model


def _name_nodes(graph: ir.Graph) -> None:
    """Give each node a name of its own: weights that a rewrite makes are called after the node that reads them."""
    taken: set[str] = set()
    for number, node in enumerate(graph):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}.{number}"
        taken.add(node.name)


def _fold_batch_norm(graph: ir.Graph, node: ir.Node) -> None:
    if node.op_type != "BatchNormalization" or node.inputs[0] is None:
        return
    conv = node.inputs[0].producer()
    numbers = [constant(value) for value in node.inputs[1:5]]
    if conv is None or conv.op_type != "Conv" or only_reader(node.inputs[0]) is not node:
        return
    weight = constant(conv.inputs[1])
    if weight is None or any(number is None for number in numbers):
        return
    gamma, beta, mean, variance = (np.asarray(number, np.float64) for number in numbers)
    epsilon = attribute(node, "epsilon", 1e-5)
    assert isinstance(epsilon, float)
    factor = gamma / np.sqrt(variance + epsilon)
    bias = constant(conv.inputs[2]) if len(conv.inputs) > 2 else None
    shifted = ((0.0 if bias is None else bias.astype(np.float64)) - mean) * factor + beta
    stem = conv.name or conv.outputs[0].name
    scaled = weight.astype(np.float64) * factor.reshape(-1, *[1] * (weight.ndim - 1))
    conv.resize_inputs(3)
    conv.replace_input_with(1, new_constant(graph, f"{stem}.weight.folded", scaled.astype(np.float32)))
    conv.replace_input_with(2, new_constant(graph, f"{stem}.bias.folded", shifted.astype(np.float32)))
    node.outputs[0].replace_all_uses_with(conv.outputs[0], replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _pool_of_reduce_mean(graph: ir.Graph, node: ir.Node) -> None:
    if node.op_type != "ReduceMean" or node.inputs[0] is None or node.inputs[0].shape is None:
        return
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else attribute(node, "axes", None)
    rank = len(node.inputs[0].shape)
    if axes is None or rank != 4 or sorted(int(a) % rank for a in np.asarray(axes)) != [2, 3]:
        return
    out = node.outputs[0]
    pooled = new_node(
        "GlobalAveragePool", [node.inputs[0]], name=node.name or "", out=f"{out.name}.pooled", dtype=out.dtype
    )
    graph.insert_before(node, pooled)
    result = pooled.outputs[0]
    result.shape = ir.Shape([*list(node.inputs[0].shape)[:2], 1, 1])
    if not attribute(node, "keepdims", 1):
        flat = new_node("Flatten", [result], {"axis": 1}, name=f"{node.name}.flatten", out=f"{out.name}.flat", like=out)
        graph.insert_before(node, flat)
        result = flat.outputs[0]
    out.replace_all_uses_with(result, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _pool_first(graph: ir.Graph, node: ir.Node) -> None:
    source = node.inputs[0] if node.op_type == "AveragePool" else None
    conv = source.producer() if source is not None else None
    if source is None or conv is None or conv.op_type != "Conv" or only_reader(source) is not node:
        return
    weight, shape = constant(conv.inputs[1]), conv.inputs[0].shape if conv.inputs[0] is not None else None
    strides, pads = (np.asarray(attribute(conv, name, default)) for name, default in (("strides", 1), ("pads", 0)))
    if weight is None or shape is None or weight.shape[2:] != (1, 1):
        return
    if (strides != 1).any() or pads.any() or attribute(conv, "group", 1) != 1:
        return
    if attribute(conv, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return
    if any(np.asarray(attribute(node, "pads", [0])).ravel()) or attribute(node, "ceil_mode", 0):
        return  # a bias would be averaged with zeros
    out = node.outputs[0]
    pool = new_node("AveragePool", [conv.inputs[0]], name=node.name or "", out=f"{out.name}.first", dtype=out.dtype)
    pool.attributes.update(node.attributes)
    pooled = pool.outputs[0]
    if out.shape is not None:
        pooled.shape = ir.Shape([shape[1] if i == 1 else size for i, size in enumerate(out.shape)])
    moved = new_node("Conv", [pooled, *conv.inputs[1:]], name=conv.name or "", out=out.name or "", like=out)
    moved.attributes.update(conv.attributes)
    graph.insert_before(node, [pool, moved])
    out.name = f"{out.name}.replaced"
    out.replace_all_uses_with(moved.outputs[0], replace_graph_outputs=True)
    graph.remove([node, conv], safe=True)


def _relu_of_clip(graph: ir.Graph, node: ir.Node) -> None:
    if node.op_type != "Clip":
        return
    low = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    high = node.inputs[2] if len(node.inputs) > 2 else None
    if low is not None and float(low) == 0.0 and high is None:
        out = node.outputs[0]
        relu = new_node("Relu", [node.inputs[0]], name=node.name or "", out=f"{out.name}.relu", like=out)
        graph.insert_before(node, relu)
        node.outputs[0].replace_all_uses_with(relu.outputs[0], replace_graph_outputs=True)
        graph.remove(node, safe=True)


def _bias_everywhere(graph: ir.Graph, node: ir.Node) -> None:
    if node.op_type != "Conv" or (len(node.inputs) > 2 and node.inputs[2] is not None):
        return
    weight = constant(node.inputs[1])
    if weight is not None:
        node.resize_inputs(3)
        zeros = np.zeros(weight.shape[0], np.float32)
        node.replace_input_with(2, new_constant(graph, f"{node.name or node.outputs[0].name}.bias.absent", zeros))
