"""What works on each channel alone, written as a depthwise convolution, which has a fast integer kernel.

* BatchNormalization that cannot be folded, since a Relu stands between it and the next convolution (DenseNet, ResNets
  with pre-activation), is ``x·γ/√(σ²+ε) + (β − μ·γ/√(σ²+ε))``: a 1×1 depthwise convolution. With a scale for each
  channel its one weight is exact as an integer.
* AveragePool is a depthwise convolution with equal weights, exact as integers too; its own integer kernel is slower than
  float.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from deploykit.quantization.qdq.graph import attribute, constant, new_constant, new_node

BEFORE = ("Conv", "Relu", "Concat", "Add", "MaxPool", "AveragePool")
"""Operators with integer kernels whose output a BatchNormalization reads where it cannot be folded."""


def as_depthwise(graph: ir.Graph, keep: frozenset[str] = frozenset()) -> int:
    """Rewrite ``graph`` in place; returns how many nodes were.

    ``keep``: names of nodes that stay float, which are left alone.
    """
    changed = 0
    for node in list(graph):
        if (node.name or "") in keep:
            continue
        if node.op_type == "BatchNormalization":
            changed += _batch_norm(graph, node)
        elif node.op_type == "AveragePool":
            changed += _average_pool(graph, node)
    return changed


def _batch_norm(graph: ir.Graph, node: ir.Node) -> bool:
    source = node.inputs[0]
    numbers = [constant(value) for value in node.inputs[1:5]]
    maker = source.producer() if source is not None else None
    rank = len(source.shape) if source is not None and source.shape is not None else 0
    if maker is None or maker.op_type not in BEFORE or rank != 4 or any(number is None for number in numbers):
        return False
    gamma, beta, mean, variance = (np.asarray(number, np.float64) for number in numbers)
    epsilon = attribute(node, "epsilon", 1e-5)
    assert isinstance(epsilon, float)
    factor = gamma / np.sqrt(variance + epsilon)
    _replace(graph, node, factor.reshape(-1, 1, 1, 1), beta - mean * factor, {})
    return True


def _average_pool(graph: ir.Graph, node: ir.Node) -> bool:
    source = node.inputs[0]
    shape = source.shape if source is not None else None
    kernel = attribute(node, "kernel_shape", [])
    assert isinstance(kernel, (list, tuple))
    padded = any(np.asarray(attribute(node, "pads", [0])).ravel()) and not attribute(node, "count_include_pad", 0)
    plain = attribute(node, "auto_pad", "NOTSET") == "NOTSET" and not attribute(node, "ceil_mode", 0)
    if shape is None or len(shape) != 4 or not isinstance(shape[1], int) or padded or not plain:
        return False
    kept = {name: node.attributes[name] for name in ("strides", "pads", "dilations") if name in node.attributes}
    weight = np.full((shape[1], 1, *kernel), 1 / np.prod(kernel))
    _replace(graph, node, weight, np.zeros(shape[1]), kept)
    return True


def _replace(
    graph: ir.Graph, node: ir.Node, weight: np.ndarray, bias: np.ndarray, attributes: dict[str, ir.Attr]
) -> None:
    name, out = node.name or "", node.outputs[0]
    numbers = (
        new_constant(graph, f"{name}.depthwise.weight", weight.astype(np.float32)),
        new_constant(graph, f"{name}.depthwise.bias", bias.astype(np.float32)),
    )
    plain = {"group": len(weight), "kernel_shape": list(weight.shape[2:])}
    conv = new_node("Conv", [node.inputs[0], *numbers], plain, name=name, out=out.name or "", like=out)
    for attr in attributes.values():
        conv.attributes[attr.name] = attr
    out.name = f"{out.name}.replaced"
    graph.insert_before(node, conv)
    out.replace_all_uses_with(conv.outputs[0], replace_graph_outputs=True)
    graph.remove(node, safe=True)
