"""What brings the accuracy of an int8 network back, applied to a quantizer and one choice of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir

from deploykit.base.progress import SILENT, Progress
from deploykit.quantization.adaround import round_adaptively
from deploykit.quantization.bias_correction import Batches, correct_biases
from deploykit.quantization.calibrate import OpenGraph
from deploykit.quantization.equalize import equalize
from deploykit.quantization.qdq.graph import attribute
from deploykit.quantization.qdq.prepare import prepare
from deploykit.quantization.search import Choice, Quantizer, planned

LAYERS = ("Conv", "Gemm")


def equalized(proto: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    """The ways to equalize a float network that change anything, the cheaper one first.

    Returns:
        ``channels equalized``: common upper bounds stay; ``… and bounds split``: ReLU6 gets a bound for each channel.
    """
    found: dict[str, onnx.ModelProto] = {}
    least: dict[str, float] = {}
    for name, split in (("channels equalized", False), ("channels equalized, bounds split", True)):
        model = prepare(proto)
        spread = equalize(model, split_clips=split)
        if spread and spread.keys() != least.keys():
            found[name] = ir.to_proto(model)
        least = spread
    return found


def corrected(
    quantizer: Quantizer,
    choice: Choice,
    batches: Batches,
    open_graph: OpenGraph,
    progress: Progress = SILENT,
) -> Quantizer:
    """The quantizer with corrected biases for ``choice``."""
    reference, layers = _reference(quantizer, choice)

    def make(shifts: Mapping[str, np.ndarray]) -> onnx.ModelProto:
        return replace(quantizer, shifts=shifts).make(choice)

    return replace(quantizer, shifts=correct_biases(reference, make, layers, batches, open_graph, progress=progress))


def adapted(
    quantizer: Quantizer,
    choice: Choice,
    batches: Batches,
    open_graph: OpenGraph,
    *,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Quantizer:
    """The quantizer with adaptively rounded weights for ``choice``."""
    reference, layers = _reference(quantizer, choice)

    def make(rounded: Mapping[str, np.ndarray]) -> onnx.ModelProto:
        return replace(quantizer, rounded=rounded).make(choice)

    bits = quantizer.dialect.weight_bits
    rounded = round_adaptively(reference, make, layers, batches, open_graph, bits=bits, seed=seed, progress=progress)
    return replace(quantizer, rounded=rounded)


def _reference(quantizer: Quantizer, choice: Choice) -> tuple[onnx.ModelProto, list[str]]:
    """The float network that ``choice`` is planned on, and its layers whose outputs both networks have."""
    model, plan = planned(quantizer.proto, choice, quantizer.dialect)
    # The bias before an absorbed HardSigmoid holds that node's shift too: its output is another by design.
    moved = {
        value.producer() for node in plan.absorbed if node.op_type == "HardSigmoid" for value in node.inputs if value
    }
    layers = [
        node.name or ""
        for node in plan.nodes
        if node.op_type in LAYERS and node not in moved and attribute(node, "auto_pad", "NOTSET") == "NOTSET"
    ]
    return ir.to_proto(model), layers
