"""``deploykit quantize --method qat``: a model file is trained on as its int8 engine computes, and keeps the better of both.

The float model is calibrated and quantized as always; that is where training starts and what it must beat. The network
that is trained runs the exported graph with the dialect's own rounding, so what is trained is what is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from deploykit.base.artifact import (
    Made,
    Manifest,
    Parent,
    already_made,
    artifact_sha256,
    files_of,
    read_manifest,
    refuse_input,
    write_manifest,
)
from deploykit.base.checkpoint import check_file
from deploykit.base.environment import cpu, library_versions
from deploykit.base.errors import BadInput
from deploykit.base.lock import alone_with
from deploykit.base.progress import SILENT, Progress
from deploykit.config.quantize import QuantizeConfig
from deploykit.evaluation.graph_runner import Opened
from deploykit.quantization.calibration_images import calibration_pictures
from deploykit.quantization.ptq import LIBRARIES, choose, float_onnx, recorded, see
from deploykit.quantization.qat.fit import Fitted, fitted
from deploykit.quantization.qat.qat_network import equalized_start
from deploykit.quantization.qat.select_best import Verdict, verdict

if TYPE_CHECKING:
    from deploykit.data import DataSource
    from deploykit.models import LoadedModel
    from deploykit.quantization.calibration_images import Calibration
    from deploykit.quantization.ptq import Seen
    from deploykit.quantization.qdq.dialects import Dialect
    from deploykit.quantization.search import Choice
    from deploykit.training.resume import ResumeFile
    from deploykit.training.signals import Stop


@dataclass(frozen=True)
class QatResult(Made):
    """What a training for int8 made.

    Attributes:
        output: the model file, which holds ranges.
        made: False where the identical file was there already.
        facts: won (``qat`` or ``ptq``), top1_select (of what won), top1_float, top1_ptq, top1_qat (0…1 on ``select``; of
            written graphs, not of the fake-quantized network), agreement (of that network with its written graph),
            select_images, target, weight_bits, epochs, best_epoch, seconds, layers, trained_layers, diverged, equalized.
    """

    def summary(self) -> str:
        """For people."""
        if not self.made:
            return f"{self.output} is up to date: same model, data, options and versions; nothing done"
        facts = self.facts
        names = {"float": facts["top1_float"], "after calibration": facts["top1_ptq"], "trained": facts["top1_qat"]}
        shown = ", ".join(f"{name} {100 * value:.2f} %" for name, value in names.items() if value is not None)
        kept = "training won" if facts["won"] == "qat" else "training did not help: the calibrated model is kept"
        return (
            f"{self.output}: {kept}; top-1 on {facts['select_images']} select pictures: {shown}; "
            f"`deploykit quantize {self.output.name} --target …` writes it out for any target"
        )


def train_for_int8(
    source: Path,
    output: Path | str | None,
    config: QuantizeConfig,
    dialect: Dialect,
    version: int,
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> QatResult:
    """Train ``source`` on with fake quantization.

    An interrupted run goes on where it stopped when it is started again with the same arguments.

    Args:
        source: a model file.
        output: default ``model.qat.pt`` beside it.
        config: with ``method: qat``.
        dialect: of ``config.target``.
        version: of the stage.
        force: replace an output that is not ours.
        progress: where it shows.

    Raises:
        BadInput: no model file or no labelled data, a network that cannot be trained through, several processes.
        KeyboardInterrupt: the state is kept.
    """
    from deploykit.training.distributed import rank_from_environment
    from deploykit.training.signals import Stop

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
    target = Path(output) if output is not None else source.with_name(f"{source.stem}.qat.pt")
    if target.suffix != ".pt":
        raise BadInput("the output's name", got=target.name, expected="a name that ends with .pt")
    if config.weight_bits is not None:
        dialect = replace(dialect, weight_bits=config.weight_bits)
    refuse_input(target, source)
    already_made(target, "", force=force)  # refuses what may not be replaced before any work
    with alone_with(target, progress), Stop().listening() as stop:
        images = calibration_pictures(config, progress)
        if images.labels is None or not len(images.labels):
            raise BadInput(f"{config.data} has no select pictures to judge on", fix="Give more training pictures.")
        manifest = _manifest(source, target, config, dialect, version, images)
        if already_made(target, manifest.key, force=force):
            made = read_manifest(target)
            assert made is not None
            return QatResult(target, False, made.facts)
        with TemporaryDirectory(prefix="deploykit-") as scratch:
            return _train(source, target, config, dialect, manifest, images, stop, Path(scratch), force, progress)


def _manifest(
    source: Path, target: Path, config: QuantizeConfig, dialect: Dialect, version: int, images: Calibration
) -> Manifest:
    parents = [
        Parent("model", artifact_sha256(source), os.path.relpath(source, target.parent), source.stem),
        Parent("data", images.sha256, name=images.name),
    ]
    fields = recorded(config)
    if config.qat_teacher is not None:
        teacher = check_file(Path(config.qat_teacher))
        parents.append(
            Parent("teacher", artifact_sha256(teacher), os.path.relpath(teacher, target.parent), teacher.stem)
        )
        fields["qat_teacher"] = teacher.name
    return Manifest(
        kind="model",
        files={},
        stage="quantize",
        version=version,
        config=fields,
        parents=tuple(parents),
        precision="fp32",
        versions=library_versions((*LIBRARIES, "torch")),
        hardware={"cpu": cpu()} if dialect.timed and not config.force_int8 else {"weight_bits": dialect.weight_bits},
    )


def _train(
    source: Path,
    target: Path,
    config: QuantizeConfig,
    dialect: Dialect,
    manifest: Manifest,
    images: Calibration,
    stop: Stop,
    scratch: Path,
    force: bool,
    progress: Progress,
) -> QatResult:
    from deploykit.data import open_data
    from deploykit.models import load_model
    from deploykit.training.resume import ResumeFile

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
    data = open_data(str(config.data), allow_code=config.allow_code, skip_broken=config.skip_broken, progress=progress)
    found = fitted(loaded, seen, choice, config, dialect, data, resume, stop, progress)
    final = verdict(loaded, found, seen, choice, config, dialect, data, images, opened, scratch, progress)
    facts = _facts(final, found, config, dialect) | {"equalized": seen is not calibrated}
    _write(target, loaded, found, final, manifest, facts, data, force)
    resume.remove()
    _place_of_choice(target).unlink(missing_ok=True)
    return QatResult(target, True, facts)


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
    from deploykit.base.atomic import write_text
    from deploykit.quantization.search import Choice

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


def _facts(final: Verdict, found: Fitted, config: QuantizeConfig, dialect: Dialect) -> dict[str, Any]:
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
    facts: dict[str, Any],
    data: Any,
    force: bool,
) -> None:
    from deploykit.models import save_model
    from deploykit.reporting.attachments.files import attach
    from deploykit.training.model_file import attachments_of

    assert loaded.preprocessing is not None
    loaded.module.load_state_dict(final.tensors)
    classes = loaded.classes or tuple(data.classes)
    parents = [{"role": p.role, "sha256": p.sha256, "name": p.name} for p in manifest.parents]
    entry = {"stage": "quantize", "config": manifest.config, "parents": parents, "result": facts}
    save_model(
        target,
        loaded.module,
        loaded.arch,
        loaded.preprocessing,
        classes,
        lineage=[*loaded.lineage, entry],
        samples=loaded.samples if loaded.samples is not None else _samples(data, loaded, classes),
        masks=loaded.masks,
        ranges=final.record.to_dict(),
        claim=True,
    )
    if found.course is not None:
        attach(target, attachments_of("quantize", found.course, facts, loaded.lineage), force=force)
    write_manifest(
        target,
        replace(
            manifest,
            files=files_of(target),
            preprocessing=loaded.preprocessing.to_dict(),
            classes=classes,
            facts=facts,
        ),
    )


def _samples(data: DataSource, loaded: LoadedModel, classes: tuple[str, ...]) -> Mapping[str, Any] | None:
    """Test pictures at the network's size, by which a written file is verified; None where its classes are others."""
    from deploykit.training.model_file import samples_of_split

    if tuple(data.classes) != classes:
        return None
    assert loaded.preprocessing is not None
    return samples_of_split(data.split("test"), loaded.preprocessing)
