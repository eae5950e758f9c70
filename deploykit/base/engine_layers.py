"""What engines tell of themselves: their layers, the Q and DQ left in them, and counts of both, in one shape for all."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class EngineLayer(TypedDict):
    """One layer of an engine; ``nodes`` are those of the ONNX file that it does, ``tactic`` and ``formats`` TensorRT's."""

    name: str
    type: str
    precision: str
    nodes: list[str]
    tactic: NotRequired[str | None]
    formats: NotRequired[list[str]]


class TimedLayer(EngineLayer):
    """One layer with its median time; ``shape`` is that of its first output, where the engine tells it."""

    time_us: float
    shape: NotRequired[list[int] | None]
    provider: NotRequired[str]
    kernel: NotRequired[str]


class UnfusedQdq(TypedDict):
    """A Q or DQ that runs on its own, or is expected to.

    ``needed``: at the border, where the picture or the answer must be float. ``beside``: nodes of the file around it that
    compute in float. ``nodes``: its own, where they are known.
    """

    name: str
    type: str
    why: str
    needed: bool
    beside: list[str]
    nodes: NotRequired[list[str]]


class EngineAudit(TypedDict, total=False):
    """Counts over an engine's layers; each engine tells some of them.

    ``nodes``: that run. ``fp16_convs``: bf16 too. ``float_convs``: names of those not in int8, where some are. ``reformats``:
    layers that only change layout or type. ``fused``: layers of several ONNX nodes. ``nodes_by_provider``: None where ONNX
    Runtime does not tell. ``memcpy_nodes``: copies between CPU and GPU. ``profile``: the optimization profile in use.
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
