"""The statistics of a network's activations: from a range file that fits, or by a calibration that the file keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploykit.base.progress import Progress
from deploykit.config.quantize import QuantizeConfig
from deploykit.evaluation.graph_runner import Opened
from deploykit.quantization.calibration_images import Calibration

if TYPE_CHECKING:
    import onnx

    from deploykit.base.preprocessing import Preprocessing
    from deploykit.quantization.observers import Observer
    from deploykit.quantization.range_file import Origin

PROBE_PICTURES = 2


def observed(
    proto: onnx.ModelProto,
    values: Sequence[Any],
    images: Calibration,
    preprocessing: Preprocessing,
    config: QuantizeConfig,
    opened: Opened,
    progress: Progress,
) -> dict[str, Observer]:
    """See ``values`` of the prepared graph ``proto`` on the calibration pictures.

    With ``config.ranges`` the file is read where it exists: complete, it saves the calibration; partial, it is gone on
    with. It is written in steps, each whole, so that an interrupted calibration loses little.

    Raises:
        BadInput: no pictures; NaN in an activation; a range file of another network, other pictures or settings.
    """
    from deploykit.quantization.calibrate import observe
    from deploykit.quantization.range_file import Ranges, check_origin, read_ranges, write_ranges

    if config.ranges is None:
        batches = images.batches(config.batch, preprocessing)
        return observe(proto, values, batches, opened.graph, total=len(images.observed), progress=progress)
    path = Path(config.ranges)
    origin = _origin(proto, [value.name for value in values], images, preprocessing, config, opened)
    held = Ranges(origin)
    if path.exists():
        held = read_ranges(path)
        check_origin(held, origin, path)
        progress.say(f"ranges of {held.done} pictures read from {path}")
        if held.complete:
            return {name: held.seen[name] for name in origin.probe}

    def keep(seen: Mapping[str, Observer], done: int) -> None:
        write_ranges(path, Ranges(origin, done, done >= len(images.observed), seen))

    return observe(
        proto,
        values,
        images.batches(config.batch, preprocessing, held.done),
        opened.graph,
        total=len(images.observed),
        progress=progress,
        seen=held.seen,
        done=held.done,
        keep=keep,
    )


def observed_values(model: Any) -> list[Any]:
    """Activations of a prepared graph that any choice for any target may quantize: one calibration serves all.

    These are the plans' and every input of a convolution or matrix product.
    """
    from deploykit.quantization.qdq.dialects import DIALECTS
    from deploykit.quantization.qdq.graph import activation_inputs
    from deploykit.quantization.qdq.placement_ort_cpu import ANCHORS
    from deploykit.quantization.rewrites.depthwise import as_depthwise

    rewritten = model.clone()
    as_depthwise(rewritten.graph)
    plans = {dialect.plan for dialect in DIALECTS.values()}
    points = {value.name for one in (model, rewritten) for plan in plans for value in plan(one.graph).points}
    found: dict[Any, None] = {}
    for node in model.graph:
        for value in (*(v for _, v in activation_inputs(node)), *node.outputs):
            if value.name in points or (node.op_type in (*ANCHORS, "Pad") and value in node.inputs):
                found[value] = None
    return list(found)


def _origin(
    proto: onnx.ModelProto,
    names: Sequence[str],
    images: Calibration,
    preprocessing: Preprocessing,
    config: QuantizeConfig,
    opened: Opened,
) -> Origin:
    from deploykit.data import prepare, synthetic_images
    from deploykit.quantization.calibrate import extremes
    from deploykit.quantization.range_file import Origin, graph_sha256

    first = proto.graph.input[0].type.tensor_type.shape.dim[0]
    count = first.dim_value if first.HasField("dim_value") else PROBE_PICTURES
    x = prepare(synthetic_images(count, preprocessing.size, 0), preprocessing)
    return Origin(
        graph_sha256(proto),
        extremes(proto, names, x, opened.graph),
        {"name": images.name, "sha256": images.observed_sha256},
        preprocessing.to_dict(),
        {"images": len(images.observed), "batch": config.batch},
    )
