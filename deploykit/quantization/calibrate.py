"""The statistics of a network's activations: from a range file that fits, or by one pass of observers over the pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import SILENT, Progress
from deploykit.data import prepare, synthetic_images
from deploykit.exporting.taps import OpenGraph, with_outputs
from deploykit.quantization.job import Job
from deploykit.quantization.observers import Observer
from deploykit.quantization.qdq.dialects import DIALECTS
from deploykit.quantization.qdq.graph import activation_inputs
from deploykit.quantization.qdq.placement_ort_cpu import ANCHORS
from deploykit.quantization.range_file import Origin, Ranges, check_origin, graph_sha256, read_ranges, write_ranges
from deploykit.quantization.rewrites.depthwise import as_depthwise

Keep = Callable[[Mapping[str, Observer], int], None]

BUDGET_BYTES = 256 << 20
KEEP_EVERY = 25


def observe(
    proto: onnx.ModelProto,
    values: Iterable[ir.Value],
    batches: Iterable[np.ndarray],
    open_graph: OpenGraph,
    *,
    total: int | None = None,
    progress: Progress = SILENT,
    seen: Mapping[str, Observer] | None = None,
    done: int = 0,
    keep: Keep | None = None,
    budget_bytes: int = BUDGET_BYTES,
) -> dict[str, Observer]:
    """Run ``proto`` over ``batches`` and see ``values`` in each.

    Returns tensor name → observer; memory is that of the budget plus ``BINS`` counts a tensor.

    Args:
        proto: the prepared float graph.
        values: activations of it; graph inputs are seen as they are fed.
        batches: prepared inputs, float32 [N, C, H, W]; those that follow the first ``done`` images.
        open_graph: opens a graph and returns a function from an input to all outputs by name.
        total: number of images, for the progress bar.
        progress: where the bar is drawn.
        seen: what an interrupted pass saw of its first ``done`` images.
        done: number of images seen already.
        keep: called with the observers and the number of images seen, every ``KEEP_EVERY`` batches and at the end.
        budget_bytes: activations that are held at once; a batch that needs more is run in parts, and where one part
            is still too much the activations are taken in several runs.

    Raises:
        BadInput: no images at all, or NaN/infinity in an activation.
    """
    names = [value.name or "" for value in values]
    found = {name: Observer(name) for name in names} | dict(seen or {})
    reader: _Reader | None = None
    with progress.task("calibrate", total, "images") as bar:
        bar.advance(done)
        for number, batch in enumerate(batches, 1):
            reader = reader or _Reader(proto, names, open_graph, batch, budget_bytes)
            for part in np.split(batch, range(reader.part, len(batch), reader.part)):
                for tensors in reader(part):
                    for name, tensor in tensors.items():
                        found[name].add(tensor, offset=found[name].batches * 7919)
            done += len(batch)
            bar.advance(len(batch))
            if keep is not None and number % KEEP_EVERY == 0:
                keep(found, done)
    if not names or found[names[0]].batches == 0:
        raise BadInput("no calibration images", expected="at least one", fix="Name data with --data.")
    if keep is not None:
        keep(found, done)
    return found


class _Reader:
    """Reads activations within a budget of memory: so many images a run, so many activations a run."""

    def __init__(
        self, proto: onnx.ModelProto, names: Sequence[str], open_graph: OpenGraph, batch: np.ndarray, budget: int
    ) -> None:
        source = next(one for one in proto.graph.input)
        self._source = source.name
        fixed = source.type.tensor_type.shape.dim[0].dim_value
        first = batch[: fixed or 1]
        sizes = {name: first.nbytes if name == self._source else 0 for name in names}
        run = open_graph(with_outputs(proto, names))
        sizes |= {name: np.asarray(one).nbytes for name, one in run(first).items() if name in sizes}
        self.part = fixed or max(1, min(len(batch), budget // max(1, sum(sizes.values()))))
        groups = grouped(sizes, budget)
        self._runs = [(group, run if len(groups) == 1 else open_graph(with_outputs(proto, group))) for group in groups]

    def __call__(self, x: np.ndarray) -> Iterable[dict[str, np.ndarray]]:
        for group, run in self._runs:
            tensors = run(x)
            yield {name: x if name == self._source else np.asarray(tensors[name]) for name in group}


def grouped(sizes: Mapping[str, int], budget: int) -> list[list[str]]:
    """Names in order, in groups whose sizes sum to at most ``budget`` where a single one allows it."""
    groups: list[list[str]] = [[]]
    held = 0
    for name, size in sizes.items():
        if groups[-1] and held + size > budget:
            groups.append([])
            held = 0
        groups[-1].append(name)
        held += size
    return groups


def extremes(
    proto: onnx.ModelProto, names: Sequence[str], x: np.ndarray, open_graph: OpenGraph
) -> dict[str, tuple[float, float]]:
    """Minimum and maximum of each activation on one input: what tells two networks with equal names apart."""
    tensors = {next(one.name for one in proto.graph.input): x} | dict(open_graph(with_outputs(proto, names))(x))
    return {name: (float(tensors[name].min()), float(tensors[name].max())) for name in names}


PROBE_PICTURES = 2


def observed(wide: ir.Model, preprocessing: Preprocessing, job: Job) -> dict[str, Observer]:
    """See every activation of a prepared float network that a choice may quantize, on the calibration pictures.

    With ``config.ranges`` the file is read where it exists: complete, it saves the calibration; partial, it is gone on
    with. It is written in steps, each whole, so that an interrupted calibration loses little.

    Raises:
        BadInput: no pictures; NaN in an activation; a range file of another network, other pictures or settings.
    """
    proto, values, images, config = ir.to_proto(wide), observed_values(wide), job.images, job.config
    see = partial(
        observe, proto, values, open_graph=job.opened.graph, total=len(images.observed), progress=job.progress
    )
    if config.ranges is None:
        return see(images.batches(config.batch, preprocessing))
    path = Path(config.ranges)
    origin = _origin(proto, [value.name or "" for value in values], preprocessing, job)
    held = Ranges(origin)
    if path.exists():
        held = read_ranges(path)
        check_origin(held, origin, path)
        job.progress.say(f"ranges of {held.done} pictures read from {path}")
        if held.complete:
            return {name: held.seen[name] for name in origin.probe}

    def keep(seen: Mapping[str, Observer], done: int) -> None:
        write_ranges(path, Ranges(origin, done, done >= len(images.observed), seen))

    return see(images.batches(config.batch, preprocessing, held.done), seen=held.seen, done=held.done, keep=keep)


def observed_values(model: ir.Model) -> list[ir.Value]:
    """Activations of a prepared graph that any choice for any target may quantize: one calibration serves all.

    These are the plans' and every input of a convolution or matrix product.
    """
    rewritten = model.clone()
    as_depthwise(rewritten.graph)
    plans = {dialect.plan for dialect in DIALECTS.values()}
    points = {value.name for one in (model, rewritten) for plan in plans for value in plan(one.graph).points}
    found: dict[ir.Value, None] = {}
    for node in model.graph:
        for value in (*(v for _, v in activation_inputs(node)), *node.outputs):
            if value.name in points or (node.op_type in (*ANCHORS, "Pad") and value in node.inputs):
                found[value] = None
    return list(found)


def _origin(proto: onnx.ModelProto, names: Sequence[str], preprocessing: Preprocessing, job: Job) -> Origin:
    first = proto.graph.input[0].type.tensor_type.shape.dim[0]
    count = first.dim_value if first.HasField("dim_value") else PROBE_PICTURES
    x = prepare(synthetic_images(count, preprocessing.size, 0, preprocessing.channels), preprocessing)
    return Origin(
        graph_sha256(proto),
        extremes(proto, names, x, job.opened.graph),
        {"name": job.images.name, "sha256": job.images.observed_sha256},
        preprocessing.to_dict(),
        {"images": len(job.images.observed), "batch": job.config.batch},
    )
