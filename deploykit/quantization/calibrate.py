"""One pass over calibration images: every activation that may be quantized is seen by an observer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import onnx
import onnx_ir as ir

from deploykit.base.errors import BadInput
from deploykit.base.progress import SILENT, Progress
from deploykit.quantization.observers import Observer
from deploykit.quantization.ranges import choose_range
from deploykit.quantization.schemes import Affine, Scheme, affine

RunGraph = Callable[[np.ndarray], Mapping[str, np.ndarray]]
OpenGraph = Callable[[onnx.ModelProto], RunGraph]


def observe(
    proto: onnx.ModelProto,
    values: Iterable[ir.Value],
    batches: Iterable[np.ndarray],
    open_graph: OpenGraph,
    *,
    total: int | None = None,
    progress: Progress = SILENT,
) -> dict[str, Observer]:
    """Run ``proto`` over ``batches`` and see ``values`` in each.

    Args:
        proto: the prepared float graph.
        values: activations of it; graph inputs are seen as they are fed.
        batches: prepared inputs, float32 [N, C, H, W].
        open_graph: opens a graph and returns a function from an input to all outputs by name.
        total: number of images, for the progress bar.
        progress: where the bar is drawn.

    Returns:
        Tensor name → observer; memory is that of one batch plus ``BINS`` counts a tensor.

    Raises:
        BadInput: no images at all, or NaN/infinity in an activation.
    """
    names = [value.name or "" for value in values]
    inputs = {value.name for value in proto.graph.input}
    widened = onnx.ModelProto()
    widened.CopyFrom(proto)
    known = {output.name for output in widened.graph.output}
    widened.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in names
        if name not in known and name not in inputs
    )
    run = open_graph(widened)
    seen = {name: Observer(name) for name in names}
    source = next(iter(inputs))
    with progress.task("calibrate", total, "images") as bar:
        for number, batch in enumerate(batches):
            tensors = run(batch)
            for name in names:
                seen[name].add(batch if name == source else np.asarray(tensors[name]), offset=number * 7919)
            bar.advance(len(batch))
    if not names or seen[names[0]].batches == 0:
        raise BadInput("no calibration images", expected="at least one", fix="Name data with --data.")
    return seen


def parameters(
    seen: Mapping[str, Observer],
    scheme: Scheme,
    method: str,
    *,
    percentile: float = 99.99,
) -> dict[str, Affine]:
    """Scale and zero point of every observed tensor.

    Args:
        seen: by tensor name.
        scheme: of activations.
        method: of :func:`deploykit.quantization.ranges.choose_range`.
        percentile: for that method.
    """
    return {name: affine(*choose_range(one, method, scheme, percentile), scheme) for name, one in seen.items()}
