"""Bias correction: what quantization adds to a channel on average is taken out of its bias.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2, in the
empirical form of appendix D: layer by layer from the input, the mean of each output channel over calibration pictures
is compared between the float network and the quantized one, whose layers before are corrected already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir

from deploykit.base.progress import SILENT, Progress
from deploykit.exporting.taps import OpenGraph, with_outputs
from deploykit.quantization.qdq.graph import constant, new_constant
from deploykit.quantization.schemes import resized

Batches = Callable[[], Iterable[np.ndarray]]


def shift_biases(graph: ir.Graph, shifts: Mapping[str, np.ndarray]) -> None:
    """Add to the biases of layers by name, in place; layers without a bias are left alone."""
    for node in graph:
        bias = constant(node.inputs[2]) if node.name in shifts and len(node.inputs) > 2 else None
        if bias is not None:
            moved = bias + resized(shifts[node.name or ""], bias.shape)
            node.replace_input_with(2, new_constant(graph, f"{node.name}.bias.corrected", moved.astype(np.float32)))


def correct_biases(
    reference: onnx.ModelProto,
    make: Callable[[Mapping[str, np.ndarray]], onnx.ModelProto],
    layers: Sequence[str],
    batches: Batches,
    open_graph: OpenGraph,
    *,
    progress: Progress = SILENT,
) -> dict[str, np.ndarray]:
    """The shift of each layer's bias, found from the input on.

    ``reference``: the float network that was quantized, with the same node names. ``make``: the quantized network with
    given shifts. ``layers``: names of the quantized layers, in topological order. ``batches``: prepared calibration
    inputs; called for each layer. Returns layer → float32 [C]: mean of the float network's output minus that of the
    quantized one.
    """
    wanted = _means(reference, layers, batches, open_graph)
    shifts: dict[str, np.ndarray] = {}
    with progress.task("bias correction", len(layers), "layers") as bar:
        for name in layers:
            found = _means(make(shifts), [name], batches, open_graph)[name]
            shifts[name] = (wanted[name] - resized(found, wanted[name].shape)).astype(np.float32)
            bar.advance()
    return shifts


def _means(
    proto: onnx.ModelProto, layers: Sequence[str], batches: Batches, open_graph: OpenGraph
) -> dict[str, np.ndarray]:
    """Mean of each channel of the named nodes' outputs over pictures and pixels, float64 [C]."""
    outputs = {node.name: node.output[0] for node in proto.graph.node}
    run = open_graph(with_outputs(proto, [outputs[name] for name in layers], alone=True))
    sums: dict[str, np.ndarray] = {}
    count = 0
    for batch in batches():
        tensors = run(batch)
        count += len(batch)
        for name in layers:
            values = np.asarray(tensors[outputs[name]], np.float64)
            pixels = values.mean(axis=tuple(range(2, values.ndim))) if values.ndim > 2 else values
            sums[name] = sums.get(name, 0.0) + pixels.sum(axis=0)
    return {name: total / count for name, total in sums.items()}
