"""A Q/DQ graph as the lint rules ask about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from deploykit.quantization.qdq.graph import attribute, constant
from deploykit.quantization.qdq.placement_ort_cpu import ANCHORS

Q, DQ = "QuantizeLinear", "DequantizeLinear"


@dataclass(frozen=True)
class Finding:
    """One thing that a target will not like.

    ``code``: short name of the rule. ``breaks``: the target refuses the file or computes something else; otherwise it
    only costs speed or accuracy. ``node``: name of the node. ``message``: what is the matter. ``mend``: what to do.
    """

    code: str
    breaks: bool
    node: str
    message: str
    mend: str


@dataclass(frozen=True)
class Parameters:
    """Scale, zero point and integer type of a Q or DQ; ``scale`` is None where it is computed."""

    scale: np.ndarray | None
    zero_point: np.ndarray | None
    kind: ir.DataType | None

    def same_scale(self, other: Parameters) -> bool:
        """Whether both are known and equal."""
        return self.scale is not None and other.scale is not None and np.array_equal(self.scale, other.scale)


class View:
    """The graph, with constants lifted, and its Q and DQ nodes."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        model = ir.from_proto(proto)
        model = common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model).model
        self.graph = model.graph
        self.nodes = list(model.graph)
        for number, node in enumerate(self.nodes):
            node.name = node.name or f"{node.op_type}.{number}"
        self.pairs = [node for node in self.nodes if node.op_type in (Q, DQ)]
        self.anchors = [node for node in self.nodes if node.op_type in ANCHORS]


def parameters(node: ir.Node) -> Parameters:
    """Of a Q or DQ. A Q without a zero point writes uint8 unless it says otherwise (ONNX QuantizeLinear)."""
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    kind = zero.dtype if zero is not None else None
    if kind is None and node.op_type == DQ:
        source = node.inputs[0]
        kind = source.dtype if source is not None else None
        writer = source.producer() if source is not None else None
        if kind is None and writer is not None and writer.op_type == Q:
            kind = parameters(writer).kind
    elif kind is None:
        said = attribute(node, "output_dtype", 0)
        kind = ir.DataType(int(said)) if isinstance(said, int) and said else ir.DataType.UINT8
    return Parameters(constant(node.inputs[1]), constant(zero), kind)


def dequantizer(value: ir.Value | None) -> ir.Node | None:
    """The DQ that makes ``value``, or None."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == DQ else None


def reads_constant(dq: ir.Node) -> bool:
    """Whether a DQ reads stored integers: a weight or a bias."""
    return constant(dq.inputs[0]) is not None


def readers(value: ir.Value) -> Iterator[ir.Node]:
    """Nodes that read ``value``."""
    for use in value.uses():
        yield use.node


def through_pair(value: ir.Value | None) -> ir.Value | None:
    """The value before the Q–DQ pair that made ``value``, or None where none did."""
    dq = dequantizer(value)
    q = dq.inputs[0].producer() if dq is not None and dq.inputs[0] is not None else None
    return q.inputs[0] if q is not None and q.op_type == Q else None


def makes(value: ir.Value | None, ops: Iterable[str]) -> ir.Node | None:
    """The node that makes ``value`` if it is one of ``ops``."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type in tuple(ops) else None


def weight_shape(node: ir.Node) -> tuple[int, ...] | None:
    """Shape of the stored weight of a Conv, Gemm or MatMul, quantized or not; None where it is computed."""
    value = node.inputs[1]
    dq = dequantizer(value)
    stored = constant(dq.inputs[0] if dq is not None else value)
    return None if stored is None else tuple(stored.shape)
