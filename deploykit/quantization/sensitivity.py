"""How much each layer alone costs: its weights and activations are rounded, all else is float, and the logits are compared.

"Only this layer quantized" ranks layers even where several are bad, which "all but this" cannot. Every candidate uses
the statistics of one calibration. A candidate is not run from the picture on: what lies before the layer is float in all
of them, so it is computed once, up to the last place before the layer where a single activation carries the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from deploykit.base.progress import SILENT, Progress
from deploykit.quantization.calibrate import OpenGraph
from deploykit.quantization.rounded_layer import Rounding, round_layer, roundings
from deploykit.quantization.search import Choice, Quantizer, snr_db
from deploykit.quantization.segments import segment, starts

MODES = ("alone", "weights", "activations", "left-out")
BATCH = 8


@dataclass(frozen=True)
class LayerScore:
    """What one layer costs in one way of quantizing.

    Attributes:
        layer: node name.
        mode: one of ``MODES``: only this layer (both, its weights, its activations), or all but this layer.
        kl: mean over pictures of the Kullback-Leibler divergence of the classes' probabilities from float's, in nats.
        snr_db: of the logits against float.
        agreement: share of pictures with the same top-1.
    """

    layer: str
    mode: str
    kl: float
    snr_db: float
    agreement: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def divergence(reference: np.ndarray, other: np.ndarray) -> float:
    """Mean KL divergence in nats of the softmax of ``other`` from that of ``reference``; both logits [N, C]."""
    first, second = _log_softmax(reference), _log_softmax(other)
    return max(0.0, float((np.exp(first) * (first - second)).sum(axis=1).mean()))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def score(layer: str, mode: str, reference: np.ndarray, other: np.ndarray) -> LayerScore:
    """The score of the logits of one candidate."""
    same = float((reference.argmax(axis=1) == other.argmax(axis=1)).mean())
    return LayerScore(layer, mode, divergence(reference, other), snr_db(reference, other), same)


def sweep(
    quantizer: Quantizer,
    choice: Choice,
    x: np.ndarray,
    open_graph: OpenGraph,
    modes: Sequence[str] = ("alone",),
    progress: Progress = SILENT,
    only: Sequence[str] | None = None,
) -> list[LayerScore]:
    """Score every layer that ``choice`` quantizes in each of ``modes``, most harmful first within a mode.

    Args:
        quantizer: the network with its statistics.
        choice: which layers, and the method of ranges.
        x: prepared pictures, float32 [N, C, H, W].
        open_graph: opens a graph and returns a function from an input to all outputs by name.
        modes: of ``MODES``.
        progress: where the bar is drawn.
        only: these layers instead of all.
    """
    model, found = roundings(quantizer, choice)
    names = [name for name in found if only is None or name in only]
    proto = ir.to_proto(model)
    rounded = [mode for mode in modes if mode != "left-out"]
    scores: list[LayerScore] = []
    with progress.task("sensitivity", len(names) * len(modes), "layers") as bar:
        reference = logits_of(proto, x, open_graph)
        for tail, source, layers in _tails(proto, names, x, open_graph) if rounded else ():
            for layer in layers:
                for mode in rounded:
                    made = _rounded(tail, found[layer], mode)
                    scores.append(score(layer, mode, reference, logits_of(made, source, open_graph)))
                    bar.advance(1)
        for layer in names if "left-out" in modes else ():
            made = quantizer.make(_without(choice, layer))
            scores.append(score(layer, "left-out", reference, logits_of(made, x, open_graph)))
            bar.advance(1)
    return sorted(scores, key=lambda one: (modes.index(one.mode), -one.kl if one.mode != "left-out" else one.kl))


def _without(choice: Choice, layer: str) -> Choice:
    from dataclasses import replace

    return replace(choice, keep_float=choice.keep_float | {layer})


def _rounded(tail: onnx.ModelProto, how: Rounding, mode: str) -> onnx.ModelProto:
    model = ir.from_proto(tail)
    round_layer(model, how, weights=mode != "activations", activations=mode != "weights")
    return ir.to_proto(model)


def _tails(
    proto: onnx.ModelProto, names: Sequence[str], x: np.ndarray, open_graph: OpenGraph
) -> Iterator[tuple[onnx.ModelProto, np.ndarray, list[str]]]:
    """Graph from a start to the logits, what the start holds for ``x``, and the layers behind it, start by start."""
    here, held = "", x
    for start, layers in starts(proto, names, len(x)):
        if start != here:
            held = logits_of(segment(proto, here, start), held, open_graph)
            here = start
        yield segment(proto, here, ""), held, layers


def logits_of(proto: onnx.ModelProto, x: np.ndarray, open_graph: OpenGraph) -> np.ndarray:
    """The first output of a graph for all of ``x``, float32; a fixed batch is fed in whole batches."""
    first = proto.graph.input[0].type.tensor_type.shape.dim[0]
    step = first.dim_value if first.HasField("dim_value") else BATCH
    run: Callable[[np.ndarray], Mapping[str, np.ndarray]] = open_graph(proto)
    name = proto.graph.output[0].name
    whole = max(step, len(x) // step * step) if first.HasField("dim_value") else len(x)
    return np.concatenate([np.asarray(run(x[i : i + step])[name]) for i in range(0, whole, step)])
