"""An ONNX graph as plain data that PyTorch can run, copy and train through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from deploykit.base.errors import BadInput
from deploykit.quantization.qat.ops import check_operators


@dataclass(frozen=True)
class Step:
    """One node.

    ``name``: in the graph. ``op_type``: ONNX operator. ``attributes``: plain values. ``inputs``: names of values; empty
    where left out. ``outputs``: names of values. ``done``: values that nothing reads after it.
    """

    name: str
    op_type: str
    attributes: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    done: tuple[str, ...] = ()


@dataclass(frozen=True)
class Program:
    """All nodes in order.

    ``steps``: in topological order. ``input``: name of the pictures. ``output``: name of the logits. ``constants``:
    name → array.
    """

    steps: tuple[Step, ...]
    input: str
    output: str
    constants: Mapping[str, np.ndarray]


def program_of(graph: ir.Graph) -> Program:
    """The program of a prepared float graph.

    Raises:
        BadInput: an operator that is not known, or several outputs.
    """
    check_operators([node.op_type for node in graph])
    if len(graph.outputs) != 1:
        raise BadInput("the network has several outputs", got=len(graph.outputs), expected="one: the logits")
    last: dict[str, int] = {}
    for number, node in enumerate(graph):
        for value in node.inputs:
            if value is not None:
                last[value.name or ""] = number
    constants = {
        value.name or "": np.array(value.const_value.numpy())
        for value in graph.initializers.values()
        if value.const_value is not None
    }
    output = graph.outputs[0].name or ""
    kept = {output, *constants}
    steps = tuple(
        Step(
            node.name or "",
            node.op_type,
            {name: _plain(one) for name, one in node.attributes.items()},
            tuple("" if value is None else value.name or "" for value in node.inputs),
            tuple(value.name or "" for value in node.outputs),
            tuple(name for name, at in last.items() if at == number and name not in kept),
        )
        for number, node in enumerate(graph)
    )
    return Program(steps, graph.inputs[0].name or "", output, constants)


def _plain(one: Any) -> Any:
    return list(one.value) if one.type in (ir.AttributeType.INTS, ir.AttributeType.FLOATS) else one.value
