"""``deploykit quantize --method qat``: a model file is trained on as its int8 engine computes, and keeps the better of both.

The float model is calibrated and quantized as always; that is where training starts and what it must beat. The network
that is trained runs the exported graph with the dialect's own rounding, so what is trained is what is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from deploykit.base.artifact import Manifest, files_of, lineage_entry, write_manifest
from deploykit.base.atomic import write_text
from deploykit.base.errors import BadInput
from deploykit.base.progress import Progress
from deploykit.config.quantize import QuantizeConfig
from deploykit.data import DataSource
from deploykit.evaluation.graph_runner import Opened
from deploykit.models import LoadedModel, save_model
from deploykit.quantization.calibration_images import Calibration
from deploykit.quantization.ptq import Seen, choose, float_onnx, see
from deploykit.quantization.qat.fit import Fitted, fitted
from deploykit.quantization.qat.qat_network import equalized_start
from deploykit.quantization.qat.select_best import Verdict, verdict
from deploykit.quantization.qdq.dialects import Dialect
from deploykit.quantization.search import Choice
from deploykit.reporting.attachments.files import attach
from deploykit.training.distributed import rank_from_environment
from deploykit.training.model_file import attachments_of, samples_of_split
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
    with TemporaryDirectory(prefix="deploykit-") as scratch:
        return _train(source, target, config, dialect, manifest, data, images, stop, Path(scratch), force, progress)


def _train(
    source: Path,
    target: Path,
    config: QuantizeConfig,
    dialect: Dialect,
    manifest: Manifest,
    data: DataSource,
    images: Calibration,
    stop: Stop,
    scratch: Path,
    force: bool,
    progress: Progress,
) -> Manifest:
    from deploykit.models import load_model

    loaded = load_model(source, arch=config.arch, size=config.size, allow_code=config.allow_code)
    resume = ResumeFile(target, manifest.key, manifest.config)
    resume.check_writable()
    path = float_onnx(source, scratch, config, progress)
    opened = Opened(scratch, threads=config.threads, size=config.size, integer_kernels=dialect.timed)
    with opened.runner(path) as reference:
        calibrated = see(path, reference, config, dialect, images, opened, progress)
    seen = equalized_start(loaded, calibrated, config, images, opened, progress)
    if seen is not calibrated:  # its BatchNorm's statistics are not those of a batch any more
        config = config.model_copy(update={"qat_freeze": 0.0})
    choice = _decided(target, manifest.key, seen, config, resume, opened, progress)
    found = fitted(loaded, seen, choice, config, dialect, data, resume, stop, progress)
    final = verdict(loaded, found, seen, choice, config, dialect, data, images, opened, scratch, progress)
    facts = _facts(final, found, config, dialect) | {"equalized": seen is not calibrated}
    described = _write(target, loaded, found, final, manifest, facts, data, force)
    resume.remove()
    _place_of_choice(target).unlink(missing_ok=True)
    return described


def _decided(
    target: Path,
    key: str,
    seen: Seen,
    config: QuantizeConfig,
    resume: ResumeFile,
    opened: Opened,
    progress: Progress,
) -> Choice:
    """What stays float; a run that is gone on with keeps what its beginning measured."""
    place = _place_of_choice(target)
    if resume.path.exists() and place.exists():
        try:
            kept = json.loads(place.read_text(encoding="utf-8"))
        except ValueError:
            kept = {}
        if isinstance(kept, dict) and kept.get("key") == key:
            fields = kept["choice"]
            return Choice(**fields | {name: frozenset(fields[name]) for name in ("prefix", "keep_float")})
    choice, _ = choose(seen.quantizer, config, seen.x, seen.logits, opened, progress)
    fields = vars(choice) | {"prefix": sorted(choice.prefix), "keep_float": sorted(choice.keep_float)}
    write_text(place, json.dumps({"key": key, "choice": fields}) + "\n")
    return choice


def _place_of_choice(target: Path) -> Path:
    return target.with_name(f".{target.name}.choice.json")


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


def _write(
    target: Path,
    loaded: LoadedModel,
    found: Fitted,
    final: Verdict,
    manifest: Manifest,
    facts: Mapping[str, object],
    data: DataSource,
    force: bool,
) -> Manifest:
    assert loaded.preprocessing is not None
    loaded.module.load_state_dict(final.tensors)
    classes, samples = loaded.classes or tuple(data.classes), loaded.samples
    if samples is None and tuple(data.classes) == classes:
        samples = samples_of_split(data.split("test"), loaded.preprocessing)
    save_model(
        target,
        loaded.module,
        loaded.arch,
        loaded.preprocessing,
        classes,
        lineage=[*loaded.lineage, lineage_entry(manifest, facts)],
        samples=samples,
        masks=loaded.masks,
        ranges=final.record.to_dict(),
        claim=True,
    )
    if found.course is not None:
        attach(target, attachments_of("quantize", found.course, facts, loaded.lineage), force=force)
    described = replace(
        manifest, files=files_of(target), preprocessing=loaded.preprocessing.to_dict(), classes=classes, facts=facts
    )
    write_manifest(target, described)
    return described
