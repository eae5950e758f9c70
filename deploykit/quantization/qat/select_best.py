"""The better of both: the calibrated and the trained network, each written out and judged on ``select`` by the same engine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
import onnx
import torch
from scipy.special import log_softmax
from torch import Tensor

from deploykit.base.errors import AnswerNo
from deploykit.base.preprocessing import Preprocessing
from deploykit.data import DataSource, Split
from deploykit.evaluation.graph_runner import Opened, logits_of
from deploykit.models import LoadedModel, save_model
from deploykit.quantization.calibrate import observed
from deploykit.quantization.job import Job, Seen
from deploykit.quantization.ptq import float_onnx
from deploykit.quantization.qat.fit import Fitted
from deploykit.quantization.qat.points import learned_ranges
from deploykit.quantization.qat.record import Record, weights_sha256
from deploykit.quantization.qdq.prepare import prepare
from deploykit.quantization.ranges import choose_range
from deploykit.quantization.search import Choice, Quantizer
from deploykit.reporting.format import percent

BATCH = 32
ENOUGH_AGREEMENT = 0.995


class VerdictFacts(TypedDict):
    """Top-1 on ``select`` of written graphs, 0…1.

    ``top1_qat``: None: it does not run on integers. ``agreement``: of the trained network with its written graph.
    ``top1_select``: of what won.
    """

    top1_float: float
    top1_ptq: float
    top1_qat: float | None
    agreement: float | None
    select_images: int
    top1_select: float


@dataclass(frozen=True)
class Verdict:
    """What is kept.

    ``won``: ``qat`` or ``ptq``. ``tensors``: state dict of what won. ``facts``: for the manifest.
    """

    won: str
    tensors: dict[str, Tensor]
    record: Record
    facts: VerdictFacts


def verdict(loaded: LoadedModel, found: Fitted, seen: Seen, choice: Choice, data: DataSource, job: Job) -> Verdict:
    """Judge both on all pictures of ``select``: more right answers win, of equals the lower cross-entropy."""
    select, opened, dialect, progress = data.split("select"), job.opened, job.dialect, job.progress
    floats = _score(opened, seen.proto, select, seen.preprocessing, found)
    before = _score(opened, seen.quantizer.make(choice), select, seen.preprocessing, found)
    agreement: float | None = None
    won, tensors, ranges, limits = "ptq", found.start, found.ranges, {}
    after: _Score | None = None
    if found.course is not None:
        trained, after_ranges = _trained(loaded, found, choice, job)
        after_limits = found.network.limits() if found.network.learned else {}
        made = Quantizer(trained, {}, dialect=dialect, ranges=after_ranges, limits=after_limits).make(choice)
        try:
            after = _score(opened, made, select, seen.preprocessing, found)
        except AnswerNo as error:  # a network thrown off has ranges that the engine's kernels refuse
            progress.warn(f"the trained network does not run on integers: {error.what}")
    if after is not None:
        agreement = _agreement(found, after, select, seen.preprocessing)
        if agreement < ENOUGH_AGREEMENT:
            progress.warn(f"the written network agrees with the trained one on {percent(agreement)} of select only")
        if (after.top1, -after.loss) > (before.top1, -before.loss):
            won, ranges, limits = "qat", after_ranges, after_limits
            tensors = {name: one.clone() for name, one in found.network.net.state_dict().items()}
    facts: VerdictFacts = {
        "top1_float": floats.top1,
        "top1_ptq": before.top1,
        "top1_qat": None if after is None else after.top1,
        "agreement": agreement,
        "select_images": len(select),
        "top1_select": after.top1 if won == "qat" and after is not None else before.top1,
    }
    record = Record(
        target=job.config.target,
        bits=dialect.weight_bits,
        ranges=ranges,
        limits=limits,
        prefix=choice.prefix,
        keep_float=choice.keep_float,
        float_adds=choice.float_adds,
        float_head=choice.float_head,
        won=won,
        weights_sha256=weights_sha256(tensors),
    )
    shown = {"float": floats, "calibrated": before, **({} if after is None else {"trained": after})}
    progress.say(
        f"{'training' if won == 'qat' else 'calibration'} wins on {len(select)} select pictures: "
        + ", ".join(f"{name} {percent(one.top1)} (loss {one.loss:.4f})" for name, one in shown.items())
    )
    return Verdict(won, tensors, record, facts)


def _trained(
    loaded: LoadedModel, found: Fitted, choice: Choice, job: Job
) -> tuple[onnx.ModelProto, dict[str, tuple[float, float]]]:
    """The trained network as a float graph, and the range of every activation that any dialect may round.

    Those that were trained are the training's; the others are calibrated on the trained weights.
    """
    assert loaded.preprocessing is not None
    folder, config = job.scratch / "after", job.config
    folder.mkdir()
    path = folder / "trained.pt"
    outputs = int(found.network(torch.zeros(2, *loaded.preprocessing.shape)).shape[1])
    classes = loaded.classes or tuple(str(i) for i in range(outputs))
    save_model(path, loaded.module, loaded.arch, loaded.preprocessing, classes, samples=loaded.samples)
    proto = onnx.load(str(float_onnx(path, folder, config, job.progress)))
    plain = replace(job, config=config.model_copy(update={"ranges": None}))
    seen = observed(prepare(proto), loaded.preprocessing, plain)
    scheme = job.dialect.activations
    fresh = {name: choose_range(one, choice.method, scheme, config.percentile) for name, one in seen.items()}
    points = found.network.points
    in_training = {name: found.ranges[name] for group in points.groups for name in group.values}
    steps = [float(one) for one in found.network.steps().detach()]
    return proto, learned_ranges(points, steps, fresh | in_training)


@dataclass(frozen=True)
class _Score:
    """Logits on ``select`` in the order of the data's classes, and what they are worth."""

    logits: np.ndarray
    top1: float
    loss: float


def _score(
    opened: Opened, proto: onnx.ModelProto, select: Split, preprocessing: Preprocessing, found: Fitted
) -> _Score:
    with opened.proto(proto, opened.engine) as runner:
        logits = np.concatenate([logits_of(runner, x) for x, _ in select.batches(BATCH, preprocessing)])
    if found.order is not None:
        logits = logits[:, found.order]
    labels = select.labels[: len(logits)]
    loss = -float(log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels].mean())
    return _Score(logits, float((logits.argmax(axis=1) == labels).mean()), loss)


def _agreement(found: Fitted, after: _Score, select: Split, preprocessing: Preprocessing) -> float:
    """Share of ``select`` on which the fake-quantized network and its written graph say the same class."""
    same = []
    with torch.inference_mode():
        for number, (x, _) in enumerate(select.batches(BATCH, preprocessing)):
            logits = found.network(torch.from_numpy(x)).numpy()
            if found.order is not None:
                logits = logits[:, found.order]
            written = after.logits[number * BATCH : number * BATCH + len(x)]
            same.append(logits.argmax(axis=1) == written.argmax(axis=1))
    return float(np.concatenate(same).mean())
