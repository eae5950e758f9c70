"""Zero-pad channels to a multiple of what the integer kernels are fast at; the function does not change.

ONNX Runtime's u8·s8 depthwise kernel falls to a slow tail when the channels are no multiple of 16, and groups can be
merged into wide ones (``grouped``) only where their number divides. The channels of a depthwise or grouped convolution
are shared by everything between the convolution that makes them and those that read them (activations,
squeeze-and-excite products, pooling). Where that region is closed, all of it is padded: new output channels have zero
weights and bias, and the readers' new input channels have zero weights, so whatever stands in the padded channels is
multiplied by zero. The function of the network is unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from deploykit.quantization.qdq.graph import activation_inputs, attribute, constant, new_constant
from deploykit.quantization.rewrites.grouped_conv import keeps_groups

CHANNELWISE = (
    "Relu", "Clip", "HardSwish", "HardSigmoid", "Sigmoid", "LeakyRelu", "GlobalAveragePool", "AveragePool", "MaxPool",
    "Mul", "Add",
)  # fmt: skip


@dataclass
class _Region:
    channels: int
    values: set[ir.Value] = field(default_factory=set)
    makers: dict[ir.Node, None] = field(default_factory=dict)
    grouped: dict[ir.Node, None] = field(default_factory=dict)
    readers: dict[ir.Node, None] = field(default_factory=dict)
    closed: bool = True


def pad_grouped(graph: ir.Graph, multiple: int = 16, keep: frozenset[str] = frozenset()) -> int:
    """Pad every closed region of depthwise or grouped convolutions of ``graph`` in place; returns how many were padded.

    ``multiple``: the channels become a multiple of it. ``keep``: names of nodes that stay float, whose regions are left
    alone.
    """
    done: set[ir.Node] = set()
    padded = 0
    for node in list(graph):
        if node in done or not keeps_groups(node):
            continue
        region = _Region(_shape(node)[0])
        _grow(region, node.outputs[0])
        done.update(region.grouped)
        touched = {n.name or "" for n in (*region.makers, *region.grouped, *region.readers)}
        extra = -region.channels % multiple
        whole = all(extra % _shape(grouped)[1] == 0 for grouped in region.grouped)
        if region.closed and region.makers and extra and whole and not touched & keep:
            _pad(graph, region, extra)
            padded += 1
    return padded


def _shape(node: ir.Node) -> tuple[int, ...]:
    """Of the weight: channels out, channels of a group in, kernel."""
    weight = constant(node.inputs[1])
    assert weight is not None
    return weight.shape


def _grow(region: _Region, value: ir.Value) -> None:
    if value in region.values:
        return
    shape = value.shape
    if shape is None or len(shape) != 4 or shape[1] != region.channels or value.is_graph_output():
        region.closed = False
        return
    region.values.add(value)
    producer = value.producer()
    if producer is None:
        region.closed = False
    elif keeps_groups(producer):
        region.grouped[producer] = None
        _grow_into(region, producer)
    elif (
        producer.op_type == "Conv" and attribute(producer, "group", 1) == 1 and constant(producer.inputs[1]) is not None
    ):
        region.makers[producer] = None
    elif _channelwise(producer):
        _grow_into(region, producer)
    else:
        region.closed = False
    for use in value.uses():
        node = use.node
        if keeps_groups(node):
            region.grouped[node] = None
            _grow(region, node.outputs[0])
        elif node.op_type == "Conv" and attribute(node, "group", 1) == 1 and constant(node.inputs[1]) is not None:
            region.readers[node] = None
        elif _channelwise(node):
            _grow(region, node.outputs[0])
            _grow_into(region, node)
        else:
            region.closed = False


def _grow_into(region: _Region, node: ir.Node) -> None:
    for _, value in activation_inputs(node):
        _grow(region, value)


def _channelwise(node: ir.Node) -> bool:
    if node.op_type not in CHANNELWISE:
        return False
    return node.op_type == "Clip" or all(value is None or value.const_value is None for value in node.inputs)


def _pad(graph: ir.Graph, region: _Region, extra: int) -> None:
    for node in (*region.makers, *region.grouped):
        widen(graph, node, 1, extra, axis=0)
        if constant(node.inputs[2]) is not None:
            widen(graph, node, 2, extra, axis=0)
    for node in region.grouped:
        node.attributes["group"] = ir.AttrInt64("group", (region.channels + extra) // _shape(node)[1])
    for node in region.readers:
        widen(graph, node, 1, extra, axis=1)
    for value in region.values:
        assert value.shape is not None
        value.shape = ir.Shape([region.channels + extra if i == 1 else size for i, size in enumerate(value.shape)])


def widen(graph: ir.Graph, node: ir.Node, index: int, extra: int, axis: int) -> None:
    """Zero-pad the weight (index 1) or bias (2) of ``node`` along ``axis`` by ``extra``."""
    array = constant(node.inputs[index])
    assert array is not None
    room = [(0, extra if i == axis else 0) for i in range(array.ndim)]
    name = f"{node.name}.{'weight' if index == 1 else 'bias'}.padded{axis}"
    node.replace_input_with(index, new_constant(graph, name, np.pad(array, room)))
