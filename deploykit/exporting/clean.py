"""Clean an exported graph: nothing of the machine it was made on stays, and two exports give the same bytes.

Fold BatchNorm into the convolution, transposed convolution or Gemm before it.

With y = W·x + b and BN(y) = γ (y − μ) / √(σ² + ε) + β, let s = γ / √(σ² + ε). Then BN(y) = (s·W)·x + s·(b − μ) + β, where
s scales the output channels: axis 0 of a convolution's weight, axis 1 (within the group) of a transposed one's. It is exact
in real numbers; here it is computed in float64 and rounded once. It needs the layer's output to have no other reader.
A layer that is used several times (a head shared by levels, a recurrent block) is folded at each use; uses with the same
BatchNorm share one folded weight.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from deploykit._version import __version__
from deploykit.exporting.names import rename


def fold_batch_norms(model: ir.Model) -> tuple[int, int]:
    """Fold what can be folded exactly, in place.

    Returns how many were folded here, and how many BatchNormalization nodes stay.
    """
    graph = model.graph
    folded = left = 0
    made: Folded = {}
    for node in list(graph):
        if node.op_type == "BatchNormalization" and node.domain == "":
            if _fold(graph, node, made):
                folded += 1
            else:
                left += 1
    return folded, left


Folded = dict[tuple[object, ...], tuple[ir.Value, ir.Value]]
"""Layer's weight and bias, BatchNorm's four, what else the sums depend on → the folded weight and bias."""


def _fold(graph: ir.Graph, norm: ir.Node, made: Folded) -> bool:
    source = norm.inputs[0]
    layer = source.producer() if source is not None else None
    if layer is None or source is None or source.is_graph_output() or len(source.uses()) != 1:
        return False
    epsilon = norm.attributes["epsilon"].as_float() if "epsilon" in norm.attributes else 1e-5
    how = (str(layer.attributes.get(name)) for name in ("group", "transB", "alpha", "beta"))
    key = (layer.op_type, *how, *layer.inputs[1:], *norm.inputs[1:5], epsilon)
    if key not in made:
        arrays = _folded_arrays(layer, norm, epsilon)
        if arrays is None:
            return False
        number = len(made)
        made[key] = (
            _registered(graph, f"~{number}.folded_weight", arrays[0]),
            _registered(graph, f"~{number}.folded_bias", arrays[1]),
        )
    name = layer.inputs[1].name if layer.inputs[1] is not None else None
    if name and name.endswith(".weight"):  # keep the layer's name for the node ↔ module map
        layer.metadata_props.setdefault("pkg.torch.onnx.name_scopes", repr(["", name.removesuffix(".weight"), ""]))
    if len(layer.inputs) < 3:
        layer.resize_inputs(3)
    for place, value in enumerate(made[key], 1):
        layer.replace_input_with(place, value)
    ir.convenience.replace_all_uses_with(norm.outputs[0], source, replace_graph_outputs=True)
    if norm.outputs[0].name and source.is_graph_output():
        source.name = norm.outputs[0].name
    graph.remove(norm, safe=True)
    return True


def _folded_arrays(layer: ir.Node, norm: ir.Node, epsilon: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Weight and bias of ``layer`` with ``norm`` folded in, or None where that cannot be done."""
    constants = [_array(value) for value in norm.inputs[1:5]]
    weight = _array(layer.inputs[1]) if len(layer.inputs) > 1 else None
    bias = _array(layer.inputs[2]) if len(layer.inputs) > 2 and layer.inputs[2] is not None else None
    has_bias = len(layer.inputs) > 2 and layer.inputs[2] is not None
    if weight is None or any(c is None for c in constants) or (has_bias and bias is None):
        return None
    gamma, beta, mean, var = (np.asarray(c, np.float64) for c in constants)
    scale = gamma / np.sqrt(var + epsilon)
    scaled = _scaled(layer, weight, scale)
    if scaled is None:
        return None
    shifted = ((0.0 if bias is None else np.asarray(bias, np.float64)) - mean) * scale + beta
    return scaled.astype(weight.dtype), shifted.astype(weight.dtype)


def _registered(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    value = ir.Value(name=name, const_value=ir.tensor(np.ascontiguousarray(array), name=name))
    value.shape, value.type = ir.Shape(array.shape), ir.TensorType(ir.DataType.from_numpy(array.dtype))
    graph.register_initializer(value)
    return value


def _scaled(layer: ir.Node, weight: np.ndarray, scale: np.ndarray) -> np.ndarray | None:
    """The weight with its output channels scaled, or None where the layer is not one that can be folded into."""
    wide = np.asarray(weight, np.float64)
    if layer.op_type == "Conv" and wide.shape[0] == len(scale):
        return wide * scale.reshape(-1, *[1] * (wide.ndim - 1))
    if layer.op_type == "ConvTranspose":
        group = layer.attributes["group"].as_int() if "group" in layer.attributes else 1
        per = wide.shape[1]
        if per * group != len(scale):
            return None
        grouped = wide.reshape(group, wide.shape[0] // group, *wide.shape[1:])
        return (grouped * scale.reshape(group, 1, per, *[1] * (wide.ndim - 2))).reshape(wide.shape)
    if layer.op_type == "Gemm":
        plain = all(layer.attributes[k].as_float() == 1.0 for k in ("alpha", "beta") if k in layer.attributes)
        transposed = "transB" in layer.attributes and layer.attributes["transB"].as_int() == 1
        axis = 0 if transposed else 1
        if plain and wide.shape[axis] == len(scale):
            return wide * (scale[:, None] if transposed else scale[None, :])
    return None


def _array(value: ir.Value | None) -> np.ndarray | None:
    if value is None or not value.is_initializer() or value.const_value is None:
        return None
    return value.const_value.numpy()


def clean(model: ir.Model, modules: frozenset[str] = frozenset()) -> int:
    """Inline functions, drop Identity and dead nodes, fold BatchNorm, name nodes after modules, strip all metadata.

    ``modules``: names of the network's modules, where known. Returns how many BatchNormalization nodes stay.
    """
    graph = model.graph
    if model.functions:
        passes.InlinePass()(model)
    passes.LiftConstantsToInitializersPass()(model)
    passes.IdentityEliminationPass()(model)
    _, left = fold_batch_norms(model)
    passes.RemoveUnusedNodesPass()(model)
    passes.RemoveUnusedOpsetsPass()(model)
    passes.TopologicalSortPass()(model)
    name_batch(model)
    rename(model, modules)
    strip(model)
    graph.name = "deploykit"
    model.producer_name, model.producer_version = "deploykit", __version__
    model.domain, model.model_version = None, None
    return left


def name_batch(model: ir.Model) -> None:
    """Call the free first dimension of the input ``batch`` wherever it stands; a ``.pt2`` brings a name like ``s77``."""
    shape = model.graph.inputs[0].shape
    if shape is None or not len(shape) or not isinstance(shape[0], ir.SymbolicDim):
        return
    symbol = shape[0].value
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    for value in values if symbol is not None and symbol != "batch" else ():
        for place, dim in enumerate(value.shape or ()):
            if isinstance(dim, ir.SymbolicDim) and dim.value == symbol:
                assert value.shape is not None
                value.shape[place] = "batch"


def strip(model: ir.Model) -> None:
    """Remove doc strings and metadata from model, graphs, nodes and values: they hold paths of the exporting machine."""
    model.doc_string = None
    model.metadata_props.clear()
    for part in (model.graph, *model.graph.subgraphs()):
        part.doc_string = None
        part.metadata_props.clear()
        for value in (*part.inputs, *part.initializers.values()):
            _bare(value)
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        node.doc_string = None
        node.metadata_props.clear()
        for value in node.outputs:
            _bare(value)


def _bare(thing: Any) -> None:
    thing.doc_string = None
    thing.metadata_props.clear()
    tensor = getattr(thing, "const_value", None)
    if tensor is not None and (tensor.doc_string or tensor.metadata_props):
        thing.const_value = ir.tensor(tensor.numpy(), name=tensor.name)
