"""Which module of the network each node of the graph came from, and names that keep saying so.

Nodes are named ``MODULE/OpType`` (``layer1.0.conv1/Conv``), with ``_1``, ``_2`` … where a module has several of a type, and
each tensor after the node that makes it. So the map node ↔ module needs no metadata of its own, both exporters give
the same names, and :func:`module_of` reads it back from any node name.
"""

from __future__ import annotations

import ast
from collections import Counter

import onnx_ir as ir

SCOPES = "pkg.torch.onnx.name_scopes"
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def module_of(node_name: str) -> str:
    """``layer1.0.conv1/Conv_1`` → ``layer1.0.conv1``; the empty string for the network itself."""
    return node_name.rpartition("/")[0]


def origin(node: ir.Node) -> str:
    """The dotted module path of a node as the exporter left it: by its weight's name, its scopes, or its own name."""
    if node.op_type in _WEIGHTED:
        for value in node.inputs[1:2]:
            name = value.name if value is not None and value.is_initializer() else None
            if name and name.endswith(".weight") and "::" not in name:
                return name.removesuffix(".weight")
    if scopes := node.metadata_props.get(SCOPES):
        try:
            parts = ast.literal_eval(scopes)
        except (SyntaxError, ValueError):
            parts = []
        return str(parts[-2]) if len(parts) >= 2 else ""
    return _from_path(node.name or "")


def _from_path(name: str) -> str:
    """``/layer1/layer1.0/conv1/Conv`` (TorchScript) → ``layer1.0.conv1``: a member of a list repeats its parent's name."""
    path: list[str] = []
    for part in name.split("/")[1:-1]:
        if path and part.startswith(path[-1] + "."):
            path[-1] = part
        else:
            path.append(part)
    return ".".join(path)


def rename(model: ir.Model, modules: frozenset[str] = frozenset()) -> None:
    """Give nodes, tensors and the weights without a parameter's name their names; inputs and outputs keep theirs.

    ``modules``: names of the network's modules; TorchScript calls the second use of ``relu`` ``relu_1``, which is none.
    """
    graph = model.graph
    kept = {value.name for value in (*graph.inputs, *graph.outputs)}
    seen: Counter[str] = Counter()
    plan = []
    for node in graph:
        module = _known(origin(node), modules)
        stem = f"{module}/{node.op_type}" if module else node.op_type
        name = f"{stem}_{seen[stem]}" if seen[stem] else stem
        seen[stem] += 1
        plan.append((node, module, name))
    for index, (node, _, _) in enumerate(plan):  # a first round of names that cannot collide with the final ones
        for place, value in enumerate(node.outputs):
            if value.name not in kept:
                value.name = f"~{index}.{place}"
    for node, module, name in plan:
        node.name = name
        for place, value in enumerate(node.outputs):
            if value.name not in kept:
                value.name = name if len(node.outputs) == 1 else f"{name}:{place}"
        for place, given in enumerate(node.inputs):
            if given is not None and given.is_initializer() and not _is_parameter(given.name or ""):
                _rename_weight(graph, given, node, module, name, place)


def _known(path: str, modules: frozenset[str]) -> str:
    """``path``, or without the counter that TorchScript appended where only that is a module."""
    stem, _, counter = path.rpartition("_")
    return stem if path not in modules and counter.isdigit() and stem in modules else path


def _is_parameter(name: str) -> bool:
    """Whether an initializer already carries a parameter's own name."""
    return name.endswith((".weight", ".bias", ".running_mean", ".running_var")) and "::" not in name


def _rename_weight(graph: ir.Graph, value: ir.Value, node: ir.Node, module: str, name: str, place: int) -> None:
    role = {1: ".weight", 2: ".bias"}.get(place) if node.op_type in _WEIGHTED and module else None
    wanted = f"{module}{role}" if role else f"{name}.{place}"
    if wanted in graph.initializers and graph.initializers[wanted] is not value:
        wanted = f"{name}.{place}"
    if wanted not in graph.initializers:
        value.name = wanted
