"""What brings the accuracy of an int8 network back: each way is tried, and kept where the logits come nearer to float."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from deploykit.base.progress import SILENT, Progress
from deploykit.config.quantize import QuantizeConfig
from deploykit.quantization.adaround import round_adaptively
from deploykit.quantization.bias_correction import Batches, correct_biases
from deploykit.quantization.calibrate import OpenGraph
from deploykit.quantization.equalize import equalize
from deploykit.quantization.observers import Observer
from deploykit.quantization.qdq.graph import attribute
from deploykit.quantization.qdq.prepare import prepare
from deploykit.quantization.search import Choice, Quantizer, planned

LAYERS = ("Conv", "Gemm")


def equalized(proto: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    """The ways to equalize a float network that change anything, the cheaper one first.

    Returns ``channels equalized``: common upper bounds stay; ``… and bounds split``: ReLU6 gets a bound for each
    channel.
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
    quantizer: Quantizer, choice: Choice, batches: Batches, open_graph: OpenGraph, progress: Progress = SILENT
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


ENOUGH_DB = 25.0
LEAST_GAIN_DB = 0.2
SPLIT_GAIN_DB = 1.0
PICTURES = 128


@dataclass
class Recovery:
    """Tries the ways of recovery one after the other; each is kept only where the logits on ``select`` come nearer.

    Attributes:
        config: which are wanted.
        snr: nearness in dB of a quantized network's logits on ``select`` to the float network's.
        observe: calibrates a float network.
        batches: prepared calibration inputs, the same at each call.
        open_graph: opens a graph and returns a function from an input to all outputs by name.
        progress: where decisions are said.
        facts: what was tried and kept, for the manifest.
    """

    config: QuantizeConfig
    snr: Callable[[onnx.ModelProto], float]
    observe: Callable[[onnx.ModelProto], Mapping[str, Observer]]
    batches: Batches
    open_graph: OpenGraph
    progress: Progress = SILENT
    facts: dict[str, object] = field(default_factory=dict)

    def equalized(self, quantizer: Quantizer, base: Choice) -> Quantizer:
        """The quantizer of the equalized network where that is better, or where it is asked for."""
        wanted, name = self.config.equalize, "as it is"
        self.facts["equalization"] = None
        if wanted == "off":
            return quantizer
        if self.config.method != "auto":
            base = replace(base, method=self.config.method)
        snr = {name: self.snr(quantizer.make(base))}
        if wanted == "auto" and snr[name] >= ENOUGH_DB:
            self.progress.say(f"no equalization: int8 is near enough to float ({snr[name]:.1f} dB)")
            return quantizer
        best = quantizer
        for way, proto in equalized(quantizer.proto).items():
            candidate = replace(quantizer, proto=proto, seen=self.observe(proto))
            snr[way] = self.snr(candidate.make(base))
            gain = SPLIT_GAIN_DB if "split" in way else LEAST_GAIN_DB
            if snr[way] > snr[name] + gain or (wanted == "on" and best is quantizer):
                best, name = candidate, way
        self.progress.say(f"network {name}: " + _shown(snr))
        self.facts["equalization"] = None if best is quantizer else name
        self.facts["equalization_snr_db"] = _rounded(snr)
        return best

    def adapted(self, quantizer: Quantizer, choice: Choice) -> Quantizer:
        """The quantizer with adaptively rounded weights where asked for, and corrected biases where they help."""
        config, now = self.config, self.snr(quantizer.make(choice))
        self.facts |= {"rounding": "nearest", "bias_correction": False}
        if config.rounding == "adaround":
            found = adapted(quantizer, choice, self.batches, self.open_graph, seed=config.seed, progress=self.progress)
            if self._better("rounding", "nearest", now, "adaround", after := self.snr(found.make(choice))):
                quantizer, now, self.facts["rounding"] = found, after, "adaround"
        if config.bias_correction == "on" or (config.bias_correction == "auto" and now < ENOUGH_DB):
            found = corrected(quantizer, choice, self.batches, self.open_graph, self.progress)
            after = self.snr(found.make(choice))
            if self._better("biases", "as they are", now, "corrected", after):
                quantizer, self.facts["bias_correction"] = found, True
        return quantizer

    def _better(self, what: str, old: str, before: float, new: str, after: float) -> bool:
        self.facts[f"{what}_snr_db"] = _rounded({old: before, new: after})
        better = after > before + LEAST_GAIN_DB
        self.progress.say(f"{what} {new if better else old}: " + _shown({old: before, new: after}))
        return better


def _shown(snr: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f} dB" for name, value in snr.items())


def _rounded(snr: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in snr.items()}


def kept_batches(batches: Callable[[], Any]) -> Batches:
    """The first ``PICTURES`` of prepared batches, read once and kept, since each layer passes over them again."""
    kept: list[np.ndarray] = []

    def read() -> list[np.ndarray]:
        if not kept:
            for batch in batches():
                kept.append(batch)
                if sum(map(len, kept)) >= PICTURES:
                    break
        return kept

    return read
