"""What brings the accuracy of an int8 network back: each way is tried, and kept where the logits come nearer to float."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import SILENT, Progress
from deploykit.config.registries import RANGE_METHODS
from deploykit.exporting.taps import OpenGraph
from deploykit.quantization.adaround import round_adaptively
from deploykit.quantization.bias_correction import Batches, correct_biases
from deploykit.quantization.calibrate import observed
from deploykit.quantization.equalize import equalize
from deploykit.quantization.job import Job, Seen
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


LEAST_GAIN_DB = 0.2
SPLIT_GAIN_DB = 1.0
PICTURES = 128


Facts = dict[str, object]


def equalize_network(seen: Seen, job: Job, method: str | None = None) -> tuple[Seen, Facts]:
    """``seen``, or the equalized network where that is nearer or asked for, and what was tried, for the manifest.

    ``method``: of the ranges it is judged with; None: the configuration's.
    """
    config, quantizer = job.config, seen.quantizer
    wanted, name, method = config.equalize, "as it is", method or config.method
    if wanted == "off":
        return seen, {"equalization": None}
    base = Choice(keep_float=seen.kept)
    if method in RANGE_METHODS:
        base = replace(base, method=method)
    snr = job.near_db({name: quantizer.make(base)}, seen)
    if wanted == "auto" and snr[name] >= job.effort.equalize_below_db:
        job.progress.say(f"no equalization: int8 is near enough to float ({snr[name]:.1f} dB)")
        return seen, {"equalization": None}
    found: dict[str, Quantizer] = {}
    for way, proto in equalized(quantizer.proto).items():
        observers = observed_again(proto, seen.preprocessing, job, job.effort.again_on)
        found[way] = replace(quantizer, proto=proto, seen=observers)
    snr |= job.near_db({way: one.make(base) for way, one in found.items()}, seen)
    for way in found:
        gain = SPLIT_GAIN_DB if "split" in way else LEAST_GAIN_DB
        if snr[way] > snr[name] + gain or (wanted == "on" and name == "as it is"):
            name = way
    job.progress.say(f"network {name}: " + _shown(snr))
    facts: Facts = {"equalization": name if name in found else None, "equalization_snr_db": _rounded(snr)}
    if name not in found:
        return seen, facts
    best = found[name]
    if job.effort.again_on < len(job.images.observed):
        best = replace(best, seen=observed_again(best.proto, seen.preprocessing, job))
    return replace(seen, quantizer=best), facts


def observed_again(
    proto: onnx.ModelProto, preprocessing: Preprocessing, job: Job, images: int | None = None
) -> dict[str, Observer]:
    """Calibrate a changed network on all images or the first ones; a range file holds the network as it came."""
    observed_on = job.images if images is None else replace(job.images, observed=job.images.first(images))
    again = replace(job, config=job.config.model_copy(update={"ranges": None}), images=observed_on)
    return observed(prepare(proto), preprocessing, again)


def recover_weights(seen: Seen, choice: Choice, job: Job) -> tuple[Quantizer, Facts]:
    """Adaptively rounded weights where asked for or worth the time, corrected biases where int8 is far: each kept where it comes nearer."""
    config, quantizer, progress = job.config, seen.quantizer, job.progress
    facts: Facts = {"rounding": "nearest", "bias_correction": False}
    tries: list[tuple[str, str, str, Callable[[Quantizer], Quantizer]]] = []
    batches = kept_batches(lambda: job.images.batches(config.batch, seen.preprocessing))

    def near(one: Quantizer) -> float:
        return job.near_db({"": one.make(choice)}, seen)[""]

    def rounded(one: Quantizer) -> Quantizer:
        return adapted(one, choice, batches, job.opened.graph, seed=config.seed, progress=progress)

    def shifted(one: Quantizer) -> Quantizer:
        return corrected(one, choice, batches, job.opened.graph, progress)

    now = near(quantizer)
    narrow = job.dialect.paired or job.dialect.weight_bits < 8
    if config.rounding == "adaround" or (config.rounding == "auto" and narrow and config.effort == "max"):
        tries.append(("rounding", "nearest", "adaround", rounded))
    if config.bias_correction == "on" or (config.bias_correction == "auto" and now < job.effort.correct_below_db):
        tries.append(("biases", "as they are", "corrected", shifted))
    for what, old, new, way in tries:
        candidate = way(quantizer)
        after = near(candidate)
        better = after > now + LEAST_GAIN_DB
        facts[f"{what}_snr_db"] = _rounded({old: now, new: after})
        progress.say(f"{what} {new if better else old}: " + _shown({old: now, new: after}))
        if better:
            quantizer, now = candidate, after
            facts |= {"rounding": new} if what == "rounding" else {"bias_correction": True}
    return quantizer, facts


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
