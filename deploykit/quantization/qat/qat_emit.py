"""Write a model file that was trained for int8 as the ONNX file of a target: no calibration, the ranges are in the file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch

from deploykit.base.artifact import Manifest
from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import Progress
from deploykit.base.runner import Runner
from deploykit.config.quantize import QuantizeConfig
from deploykit.data import DataSource, prepare
from deploykit.evaluation.compare_runners import parity_of
from deploykit.evaluation.judging_images import judging_images
from deploykit.evaluation.split_images import pictures_for
from deploykit.exporting.reference import ModuleRunner
from deploykit.models import LoadedModel, load_model
from deploykit.quantization.calibration_images import Calibration
from deploykit.quantization.engine_gap import for_engine
from deploykit.quantization.job import Job, graphs
from deploykit.quantization.ptq import check_kept, describe, float_onnx, judge, linted, write_int8
from deploykit.quantization.qat.qat_network import Wanted, fake_quantized, needed_ranges, refuse_missing
from deploykit.quantization.qat.record import Record, read_record
from deploykit.quantization.qdq.dialects import Dialect
from deploykit.quantization.search import Choice, Quantizer, choose_prefix

AGREED = 0.995
OF_A_CALIBRATION = (
    "method", "percentile", "ranges", "bias_correction", "equalize", "rounding", "batch_norm", "max_drop",
    "weight_bits", "synthetic", "tune", "choices",
)  # fmt: skip
"""Options that a file with trained ranges leaves nothing to decide for."""


@dataclass(frozen=True)
class Emission:
    """One target's file before it is written.

    ``proto``: the exported float graph. ``made``: the Q/DQ graph. ``choice``: what stays float. ``trained``: the
    network in PyTorch that the file must agree with.
    """

    proto: onnx.ModelProto
    made: onnx.ModelProto
    choice: Choice
    trained: ModuleRunner


def check_options(source: Path, config: QuantizeConfig) -> None:
    """Refuse options of a calibration, which a file that holds ranges does not take.

    Raises:
        BadInput: naming the first.
    """
    if config.precision != "fp32":
        raise BadInput(
            f"--precision {config.precision} of a model trained for int8",
            fix=f"Quantize it, then deploykit export FILE.onnx --precision {config.precision}.",
        )
    for name in OF_A_CALIBRATION:
        if getattr(config, name) != QuantizeConfig.model_fields[name].default:
            raise BadInput(
                f"{source.name} holds the ranges that it was trained with: {name} is decided",
                got=getattr(config, name),
                fix="Leave the option out, or quantize the float model that it was trained from.",
            )


def emit(
    source: Path,
    target: Path,
    config: QuantizeConfig,
    dialect: Dialect,
    manifest: Manifest,
    data: DataSource | None,
    progress: Progress,
) -> Manifest:
    """Write ``source`` for ``config.target`` and hold the file against the trained network in PyTorch.

    ``source``: a model file with ranges. ``data``: opened, where they are named. Returns the manifest as written.

    Raises:
        BadInput: weights that were changed since, an unknown node.
    """
    loaded = load_model(source, arch=config.arch, stated=config.stated, allow_code=config.allow_code)
    assert loaded.ranges is not None
    record = read_record(loaded.ranges, loaded.module.state_dict(), source.name)
    dialect = dialect.of_width(min(dialect.weight_bits, record.bits))
    with graphs(config, dialect) as opened:
        path = float_onnx(source, opened.scratch, config, progress)
        with opened.runner(path) as reference:
            preprocessing = _preprocessing(reference, path)
            pictures = pictures_for(
                data=config.data,
                samples=None if loaded.samples is None else loaded.samples["images"],
                size=preprocessing.size,
                limit=config.select_images,
                seed=config.seed,
                require_real=False,
                split="select",
                allow_code=config.allow_code,
                progress=progress,
            )
            judged_on = pictures if data is None else judging_images(data)
            images = Calibration((), pictures.images, "", pictures.source, judged=judged_on)
            job = Job(config, dialect, images, opened, progress)
            x = prepare(pictures.images, preprocessing)
            proto = onnx.load(str(path))
            check_kept(proto, job)
            emission = emission_of(proto, loaded, record, x, job)
            describe(emission.made, proto)
            onnx.checker.check_model(emission.made, full_check=True)
            candidate = job.scratch / target.name
            onnx.save(emission.made, str(candidate))
            judged = judge(reference, candidate, x, job, right=emission.trained)
            against_float = _against_float(reference, candidate, job)
    if (agreed := judged["parity"]["top1_agreement"]) is not None and agreed < AGREED:
        progress.warn(f"{target.name} answers as the network that was trained on {agreed:.3f} of the images only")
    facts = {
        "choice": {**emission.choice.said(), "method": "trained"},
        "trained": {"target": record.target, "weight_bits": record.bits, "won": record.won},
        "against_float": against_float,
        "images": len(pictures.images),
        "calibrated_on": "the ranges of the training",
        "verified_on": pictures.source,
        "lint": linted(emission.made, dialect, progress),
        **judged,
    }
    manifest = replace(manifest, task=loaded.task)
    return write_int8(target, emission.made, manifest, preprocessing, loaded.classes, facts)


def _preprocessing(reference: Runner, path: Path) -> Preprocessing:
    if reference.preprocessing is None:
        raise BadInput(f"{path} does not carry its preprocessing", fix="Name the input size with --size.")
    return reference.preprocessing


def emission_of(proto: onnx.ModelProto, loaded: LoadedModel, record: Record, x: np.ndarray, job: Job) -> Emission:
    """The Q/DQ graph of a trained model, and the network it must agree with.

    On the target it was trained for, what stays float is what did so in training. On another, the predicted
    cost decides where its kernels are known.

    ``proto``: the exported float graph.
    """
    assert loaded.preprocessing is not None
    dialect = job.dialect
    quantizer = Quantizer(proto, {}, dialect=dialect, ranges=record.ranges, limits=record.limits)
    choice = _choice(quantizer, record, x, job)
    choice, _ = for_engine(quantizer, choice, x, job.opened.outputs(proto, x, as_meant=True), job)
    refuse_missing(needed_ranges(proto, choice, dialect) - set(record.ranges), "the model file")
    wanted = Wanted(choice, dialect, record.ranges, record.limits, learned=bool(record.limits))
    network = fake_quantized(loaded, proto, wanted)
    example = torch.zeros(2, *loaded.preprocessing.shape)
    trained = ModuleRunner(network, example, loaded.preprocessing, loaded.classes)
    return Emission(proto, quantizer.make(choice), choice, trained)


def _choice(quantizer: Quantizer, record: Record, x: np.ndarray, job: Job) -> Choice:
    config = job.config
    kept = frozenset(config.keep_float)
    if config.target == record.target:
        return Choice(
            prefix=record.prefix,
            keep_float=record.keep_float | kept,
            float_adds=record.float_adds,
            float_head=record.float_head,
        )
    choice = Choice(keep_float=kept)
    if quantizer.dialect.costed and not config.force_int8:
        costs = partial(job.costs_us, x=x)
        return choose_prefix(quantizer, choice, costs, lambda graphs: {}, 1, job.progress.say)
    return choice


def _against_float(reference: Runner, candidate: Path, job: Job) -> dict[str, object]:
    """How near the int8 file is to its own weights in float; after training with few bits that is not the point."""
    with job.opened.runner(candidate) as runner:
        parity = parity_of(reference, runner, job.images.chosen, (8,), "int8", job.progress, name="float").to_dict()
    return {key: parity[key] for key in ("n", "snr_db", "top1_agreement")}
