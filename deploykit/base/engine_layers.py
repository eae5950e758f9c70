"""What engines tell of themselves: their layers, the Q and DQ left in them, and counts of both, in one shape for all."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class EngineLayer(TypedDict):
    """One layer of an engine.

    Attributes:
        name: in the engine.
        type: as the engine calls it.
        precision: ``fp32``, ``int8`` … or ``unknown``.
        nodes: of the ONNX file that it does.
        tactic: of TensorRT.
        formats: of its inputs and outputs, of TensorRT.
    """

    name: str
    type: str
    precision: str
    nodes: list[str]
    tactic: NotRequired[str | None]
    formats: NotRequired[list[str]]


class TimedLayer(EngineLayer):
    """One layer of an engine with its time.

    Attributes:
        time_us: median over calls.
        shape: of its first output, where the engine tells it.
        provider: of ONNX Runtime.
        kernel: of OpenVINO.
    """

    time_us: float
    shape: NotRequired[list[int] | None]
    provider: NotRequired[str]
    kernel: NotRequired[str]


class UnfusedQdq(TypedDict):
    """A Q or DQ that runs on its own, or is expected to.

    Attributes:
        name: in the engine.
        type: of the layer.
        why: what keeps it.
        needed: at the border: the picture or the answer is float, as it must be.
        beside: nodes of the file around it that compute in float.
        nodes: its own, where they are known.
    """

    name: str
    type: str
    why: str
    needed: bool
    beside: list[str]
    nodes: NotRequired[list[str]]


class EngineAudit(TypedDict, total=False):
    """Counts over an engine's layers; each engine tells some of them.

    Attributes:
        qdq_left: Q and DQ that became part of no kernel.
        nodes: that run.
        layers: of a plan.
        convs: all convolutions; of them ``int8_convs``, ``fp8_convs`` and ``fp16_convs`` (bf16 too).
        float_convs: names of those not in int8, where some are.
        fully_connected: all matrix products; of them ``int8_fully_connected``.
        reformats: layers that only change layout or type.
        fused: layers of several ONNX nodes.
        ops: type → nodes.
        precisions: precision → layers.
        nodes_by_provider: of ONNX Runtime; None where it does not tell.
        memcpy_nodes: copies between CPU and GPU that ONNX Runtime put in.
        cuda_graph: whether runs replay one.
        profile: the optimization profile in use.
        channels_last: the memory format of PyTorch.
        tf32: whether PyTorch may round products so.
        intra_op_threads: of PyTorch.
    """

    qdq_left: list[UnfusedQdq]
    nodes: int
    layers: int
    convs: int
    int8_convs: int
    fp8_convs: int
    fp16_convs: int
    float_convs: list[str]
    fully_connected: int
    int8_fully_connected: int
    reformats: int
    fused: int
    ops: dict[str, int]
    precisions: dict[str, int]
    nodes_by_provider: dict[str, int] | None
    memcpy_nodes: int
    cuda_graph: bool
    profile: int
    channels_last: bool
    tf32: bool
    intra_op_threads: int
