"""``deploykit quantize --method qat``: a model file is trained on as its int8 engine computes, and keeps the better of both.

The float model is calibrated and quantized as always; that is where training starts and what it must beat. The network
that is trained runs the exported graph with the dialect's own rounding, so what is trained is what is written.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from deploykit.base.artifact import LineageEntry, Manifest, lineage_entry, write_model_manifest
from deploykit.base.errors import BadInput
from deploykit.base.progress import Progress
from deploykit.config.quantize import QuantizeConfig
from deploykit.data import DataSource
from deploykit.models import LoadedModel, load_model, save_model
from deploykit.quantization.calibration_images import Calibration
from deploykit.quantization.job import Job, graphs
from deploykit.quantization.ptq import choose, float_onnx, see
from deploykit.quantization.qat.fit import Fitted, fitted
from deploykit.quantization.qat.qat_network import equalized_start
from deploykit.quantization.qat.select_best import Verdict, verdict
from deploykit.quantization.qdq.dialects import Dialect
from deploykit.reporting.attachments.files import attach
from deploykit.training.distributed import rank_from_environment
from deploykit.training.model_file import attachments_of, measured_of, samples_of_split
from deploykit.training.resume import ResumeFile
from deploykit.training.signals import Stop


def check_trainable(source: Path, config: QuantizeConfig) -> None:
    """Refuse what cannot be trained for int8.

    Raises:
        BadInput: no model file, no data, or several processes.
    """
    if source.suffix.lower() in (".onnx", ".pt2"):
        raise BadInput(
            "--method qat trains a model file",
            got=source.name,
            expected=".pt or .safetensors",
            fix="Name the model file that it was exported from.",
        )
    if config.data is None:
        raise BadInput("training for int8 needs labelled pictures", expected="--data")
    if rank_from_environment() != 0 or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise BadInput("training for int8 runs in one process", got=f"{os.environ.get('WORLD_SIZE')} processes")


def train_for_int8(
    source: Path,
    target: Path,
    config: QuantizeConfig,
    dialect: Dialect,
    manifest: Manifest,
    data: DataSource,
    images: Calibration,
    stop: Stop,
    *,
    force: bool,
    progress: Progress,
) -> Manifest:
    """Train ``source`` on with fake quantization.

    An interrupted run goes on where it stopped when it is started again with the same arguments.

    ``target``: the model file with ranges. ``images``: of them, that are seen before the training. Returns the manifest
    as written, with the facts of :class:`deploykit.commands.quantize.QatResult`.

    Raises:
        BadInput: a network that cannot be trained through.
        KeyboardInterrupt: the state is kept.
    """
    loaded = load_model(source, arch=config.arch, stated=config.stated, allow_code=config.allow_code)
    resume = ResumeFile(target, manifest.key, manifest.config)
    resume.check_writable()
    with graphs(config, dialect) as opened:
        job = Job(config, dialect, images, opened, progress)
        path = float_onnx(source, job.scratch, config, progress)
        with opened.runner(path) as reference:
            calibrated = see(path, reference, job)
        seen = equalized_start(loaded, calibrated, job)
        if seen is not calibrated:  # its BatchNorm's statistics are not those of a batch any more
            job = replace(job, config=config.model_copy(update={"qat_freeze": 0.0}))
        choice, _ = choose(seen, job)
        found = fitted(loaded, seen, choice, data, resume, stop, job)
        final = verdict(loaded, found, seen, choice, data, job)
    facts = _facts(final, found, config, dialect) | {"equalized": seen is not calibrated}
    classes = loaded.classes or tuple(data.classes)
    _save(target, loaded, final, classes, [*loaded.lineage, lineage_entry(manifest, facts)], data)
    if found.course is not None:
        attach(target, attachments_of("quantize", found.course, facts, loaded.lineage), force=force)
    assert loaded.preprocessing is not None
    measured = {} if found.course is None else measured_of(found.course)
    described = write_model_manifest([target], manifest, loaded.preprocessing, classes, facts, measured)
    resume.remove()
    return described


def _facts(final: Verdict, found: Fitted, config: QuantizeConfig, dialect: Dialect) -> dict[str, object]:
    layers = found.network.points.layers
    return {
        **found.course_facts,
        **final.facts,
        "won": final.won,
        "target": config.target,
        "weight_bits": dialect.weight_bits,
        "layers": len(layers),
        "trained_layers": sum(name in found.network.bound for name in layers),
        "diverged": found.diverged,
    }


def _save(
    target: Path,
    loaded: LoadedModel,
    final: Verdict,
    classes: tuple[str, ...],
    lineage: list[LineageEntry],
    data: DataSource,
) -> None:
    assert loaded.preprocessing is not None
    loaded.module.load_state_dict(final.tensors)
    samples = loaded.samples
    if samples is None and tuple(data.classes) == classes:
        samples = samples_of_split(data.split("test"), loaded.preprocessing)
    save_model(
        target,
        loaded.module,
        loaded.arch,
        loaded.preprocessing,
        classes,
        lineage=lineage,
        samples=samples,
        masks=loaded.masks,
        ranges=final.record.to_dict(),
        claim=True,
    )
