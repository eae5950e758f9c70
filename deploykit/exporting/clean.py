"""Clean an exported graph: nothing of the machine it was made on stays, and two exports give the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deploykit._version import __version__
from deploykit.exporting.fold import fold_batch_norms
from deploykit.exporting.names import rename

if TYPE_CHECKING:
    import onnx_ir as ir


def clean(model: ir.Model, modules: frozenset[str] = frozenset()) -> int:
    """Inline functions, drop Identity and dead nodes, fold BatchNorm, name nodes after modules, strip all metadata.

    Args:
        model: changed in place.
        modules: names of the network's modules, where known.

    Returns:
        How many BatchNormalization nodes stay.
    """
    import onnx_ir.passes.common as passes

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
    import onnx_ir as ir

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
    import onnx_ir as ir

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
        import onnx_ir as ir

        thing.const_value = ir.tensor(tensor.numpy(), name=tensor.name)
