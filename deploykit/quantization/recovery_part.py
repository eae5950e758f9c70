"""Accuracy recovery inside ``deploykit quantize``: what is tried, what is kept, and why it is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from deploykit.base.progress import SILENT, Progress
from deploykit.config.quantize import QuantizeConfig

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from deploykit.quantization.bias_correction import Batches
    from deploykit.quantization.calibrate import OpenGraph
    from deploykit.quantization.observers import Observer
    from deploykit.quantization.search import Choice, Quantizer

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
    facts: dict[str, Any] = field(default_factory=dict)

    def equalized(self, quantizer: Quantizer, base: Choice) -> Quantizer:
        """The quantizer of the equalized network where that is better, or where it is asked for."""
        from deploykit.quantization.recovery import equalized

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
        from deploykit.quantization.recovery import adapted, corrected

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
