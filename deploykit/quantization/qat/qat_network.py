"""From a model file and its graph to the network that training for int8 starts from: equalized where int8 is far from float."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnx_ir as ir
import torch

from deploykit.base.errors import BadInput
from deploykit.exporting.names import module_of
from deploykit.models import LoadedModel
from deploykit.quantization.job import Job, Seen
from deploykit.quantization.qat.binding import Bound, bind, write_back
from deploykit.quantization.qat.module import FakeQuantized
from deploykit.quantization.qat.points import Ranges, points_of
from deploykit.quantization.qdq.dialects import Dialect
from deploykit.quantization.qdq.graph import constant
from deploykit.quantization.qdq.placement_ort_cpu import ANCHORS
from deploykit.quantization.qdq.prepare import prepare
from deploykit.quantization.recovery import equalize_network
from deploykit.quantization.search import Choice, planned


@dataclass(frozen=True)
class Wanted:
    """How a network is fake-quantized.

    Attributes:
        choice: what stays float.
        dialect: whose placement, scheme and widths.
        ranges: activation name → range.
        limits: layer name → what its channels' largest integers mean; empty: found from the weights.
        learned: steps of activations and weights are parameters.
        freeze_after: training steps after which BatchNorm uses its running statistics.
    """

    choice: Choice
    dialect: Dialect
    ranges: Ranges
    limits: Mapping[str, np.ndarray]
    learned: bool = True
    freeze_after: int = 0


def fake_quantized(loaded: LoadedModel, proto: onnx.ModelProto, wanted: Wanted) -> FakeQuantized:
    """The network of a model file as its int8 engine will compute it.

    ``loaded``: the model file; its module's tensors are those of the result. ``proto``: what it was exported to.
    ``wanted``: how it is quantized.

    Raises:
        BadInput: an operator that cannot be trained through, or a missing range.
    """
    dialect = wanted.dialect
    model, plan = planned(proto, wanted.choice, dialect, padded=False)
    return FakeQuantized(
        model.graph,
        loaded.module,
        _bound(model.graph, loaded),
        points_of(plan, wanted.ranges, dialect.activations),
        bits=dialect.weight_bits,
        integer_bias=dialect.integer_bias,
        learned=wanted.learned,
        limits=wanted.limits,
        freeze_after=wanted.freeze_after,
    ).eval()


def _bound(graph: ir.Graph, loaded: LoadedModel) -> dict[str, Bound]:
    assert loaded.preprocessing is not None
    example = torch.rand(2, *loaded.preprocessing.shape, generator=torch.Generator().manual_seed(0))
    return bind(graph, loaded.module, example, module_of)


def needed_ranges(proto: onnx.ModelProto, choice: Choice, dialect: Dialect) -> set[str]:
    """Names of the activations that need a range."""
    _, plan = planned(proto, choice, dialect, padded=False)
    return {plan.shared.get(value, value).name or "" for value in plan.points}


def refuse_missing(missing: set[str], where: str) -> None:
    """Raise :class:`BadInput` where ranges are missing."""
    if missing:
        raise BadInput(
            f"{where} holds no range for {len(missing)} activations",
            got=f"none for {sorted(missing)[0]}",
            fix="Train it for int8 again with this version: `quantize --method qat`.",
        )


WAY = "channels equalized"


def equalized_start(loaded: LoadedModel, seen: Seen, job: Job) -> Seen:
    """``seen``, or the equalized network where that is better, which is then written into the tensors of ``loaded``.

    Only where a model file can hold it: not where an upper bound (ReLU6) would become one a channel.

    ``loaded``: the model file; its module changes. ``seen``: its graph, calibrated.
    """
    better, facts = equalize_network(seen, job, method="auto")
    if better is seen:
        return seen
    if facts["equalization"] == WAY and _written_back(loaded, seen.proto, better.quantizer.proto):
        job.progress.say("training starts from the equalized network; BatchNorm keeps its statistics from the start")
        return replace(better, proto=better.quantizer.proto)
    job.progress.say("training starts from the network as it is: a model file cannot hold this equalization")
    return seen


def _written_back(loaded: LoadedModel, old: onnx.ModelProto, new: onnx.ModelProto) -> bool:
    """Change the tensors of ``loaded`` from those of ``old`` to those of ``new``; False, and nothing done, where that fails."""
    before = {name: tensor.clone() for name, tensor in loaded.module.state_dict().items()}
    bound = _bound(prepare(old).graph, loaded)
    graph = prepare(new).graph
    layers = [node for node in graph if node.op_type in ANCHORS]
    for node in layers:
        weight, bias = constant(node.inputs[1]), constant(node.inputs[2]) if len(node.inputs) > 2 else None
        if (node.name or "") in bound and weight is not None and bias is not None:
            write_back(loaded.module, bound[node.name or ""], weight, bias)
    if _bound(graph, loaded).keys() >= {node.name for node in layers}:
        return True
    loaded.module.load_state_dict(before)
    return False
