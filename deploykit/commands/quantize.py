"""``deploykit quantize``: a float model → an int8 ONNX file in the dialect of its target, verified and audited."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deploykit.base.artifact import Made, Manifest, Parent
from deploykit.base.checkpoint import check_file
from deploykit.base.environment import cpu, library_versions
from deploykit.base.errors import BadInput
from deploykit.base.progress import SILENT, Progress
from deploykit.base.targets import ORT_CPU, target_of
from deploykit.commands.export import STAGE as EXPORT
from deploykit.commands.stage import (
    BARS,
    Opener,
    Planned,
    Stage,
    file_parent,
    held_to,
    make_artifact,
    opener,
    output_path,
    recorded,
)
from deploykit.config.keywords import by_keywords
from deploykit.config.quantize import QuantizeConfig
from deploykit.evaluation.judge import Bars, Verdict, verdict_of
from deploykit.quantization.calibration_images import calibration_parent, calibration_pictures
from deploykit.quantization.cast_rest import check_precision
from deploykit.quantization.layer_profile import in_words
from deploykit.quantization.qdq.dialects import Dialect
from deploykit.reporting.format import percent
from deploykit.training.signals import Stop

STAGE = Stage("quantize", 9, ("deploykit", "onnx", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "numpy"))


@dataclass(frozen=True)
class QuantizeResult(Made):
    """What a quantization made.

    Attributes:
        output: the int8 ONNX file.
        made: False where the identical file was there already.
        facts: choice, snr_db by method, audit, parity, calibrated_on, measured (whether the target runs here), lint (notes of
            ``quantize --lint``), weight_widths (layer → bits, on CPUs without VNNI); trained (for which target, and
            against_float) where the ranges come from training for int8.
        measured: speedup (compute only, batch 1 or the file's fixed one; None where not measured), slower (layers).
    """

    def summary(self) -> str:
        """For people."""
        verdict = verdict_of(self.facts["verdict"])
        if not self.made:
            told = f"{self.output} is up to date: same model, data, options and versions; nothing done"
            return told if self.status == "ok" else f"{told}; {_told(verdict)}"
        audit, parity = self.facts["audit"], self.facts["parity"]
        speedup = self.measured["speedup"]
        if speedup is None:
            speed = "speed not measured here"
        else:
            blamed = f": {in_words(self.measured['slower'])}" if "slower" in self.measured else ""
            slower = "" if speedup >= 1 else f" (not faster than float on this machine{blamed})"
            at = parity["by_batch"][0]["batch"]  # 1, or the only size that a fixed-batch file takes
            speed = f"{speedup:.2f}x over float at batch {at}{slower}"
        held = self.facts.get("max_drop")
        drop = f"; drop {held['drop_pt']:.2f} pt on select with {len(held['reverted'])} layers reverted" if held else ""
        ranges = f"ranges by {self.facts['choice']['method']} from {self.facts['images']} pictures; against float"
        if trained := self.facts.get("trained"):
            ranges = f"ranges of the training for {trained['target']}; against what was trained"
        widths = self.facts.get("weight_widths")
        shown = (
            f"; weights of {min(widths.values()):.1f} to {max(widths.values()):.1f} bits, by layer" if widths else ""
        )
        return (
            f"{self.output}: {audit['int8_convs']} of {audit['convs']} convolutions on integers, "
            f"{speed}; {ranges}: {_told(verdict)}{drop}{shown}"
        )


def _told(verdict: Verdict) -> str:
    open_yet = verdict.status == "unsure" and not verdict.accepted
    return verdict.line() + ("; judge it on more images, or take it as it is by --accept" if open_yet else "")


@dataclass(frozen=True)
class QatResult(Made):
    """What a training for int8 made.

    Attributes:
        output: the model file, which holds ranges.
        made: False where the identical file was there already.
        facts: won (``qat`` or ``ptq``), top1_select (of what won), top1_float, top1_ptq, top1_qat (0…1 on ``select``; of
            written graphs, not of the fake-quantized network), agreement (of that network with its written graph),
            select_images, target, weight_bits, epochs, best_epoch, layers, trained_layers, diverged, equalized.
    """

    def summary(self) -> str:
        """For people."""
        if not self.made:
            return f"{self.output} is up to date: same model, data, options and versions; nothing done"
        facts = self.facts
        names = {"float": facts["top1_float"], "after calibration": facts["top1_ptq"], "trained": facts["top1_qat"]}
        shown = ", ".join(f"{name} {percent(value)}" for name, value in names.items() if value is not None)
        kept = "training won" if facts["won"] == "qat" else "training did not help: the calibrated model is kept"
        return (
            f"{self.output}: {kept}; top-1 on {facts['select_images']} select pictures: {shown}; "
            f"`deploykit quantize {self.output.name} --target …` writes it out for any target"
        )


@by_keywords(QuantizeConfig, modules=("model",))
def quantize(
    model: Path | str,
    output: Path | str | None = None,
    config: QuantizeConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> QuantizeResult | QatResult:
    """Quantize ``model`` to int8 for one target.

    With ``method: qat`` a model file is trained on and a model file comes out (:mod:`deploykit.quantization.qat.qat`), which
    this function then only writes out, for any target (:mod:`deploykit.quantization.qat.qat_emit`).

    Args:
        model: an ``.onnx`` file, or a model file, which is exported first.
        output: default: beside the model, ``model.int8.onnx``, for other targets than ort-cpu ``model.int8.TARGET.onnx``;
            ``model.qat.pt`` of a training.
        config: how.
        force: replace an output that is not ours.
        progress: where it shows.

    Raises:
        BadInput: no data, a target without int8, a model that is quantized already or cannot be read.
        AnswerNo: no layer can be int8; nothing is written.
    """
    from deploykit.quantization.int8_file import holds_ranges, quantize_file

    config = config or QuantizeConfig()
    dialect = _dialect(config)
    check_precision(config)
    source = check_file(Path(model))
    if config.method == "qat":
        return _trained_for_int8(source, output, config, dialect, force=force, progress=progress)
    target = output_path(output, source.with_name(default_name(source, config.target)), ".onnx", source)
    data = _opener(config, progress)

    def plan() -> Planned:
        if holds_ranges(source):
            from deploykit.quantization.qat.qat_emit import check_options, emit  # imports torch

            check_options(source, config)
            manifest = planned(source, target, config, data)
            opened = None if config.data is None else data()
            return Planned(manifest, lambda: emit(source, target, config, dialect, manifest, opened, progress))
        if config.data is None and not config.synthetic:
            raise BadInput(
                "no calibration data",
                expected="--data",
                fix="Name data, or pass --synthetic, which the manifest then says.",
            )
        images = calibration_pictures(config, progress, data() if config.data is not None else None)
        manifest = planned(source, target, config, data)
        return Planned(manifest, lambda: quantize_file(source, target, config, dialect, manifest, images, progress))

    manifest, made = make_artifact(target, plan, force=force, progress=progress)
    manifest = held_to(target, manifest, Bars(config.min_agreement, config.min_snr_db, config.max_drop, config.accept))
    return QuantizeResult(target, made, manifest.facts, manifest.measured)


def _trained_for_int8(
    source: Path,
    output: Path | str | None,
    config: QuantizeConfig,
    dialect: Dialect,
    *,
    force: bool,
    progress: Progress,
) -> QatResult:
    from deploykit.quantization.qat.qat import check_trainable, train_for_int8

    check_trainable(source, config)
    target = output_path(output, source.with_name(f"{source.stem}.qat.pt"), ".pt", source)
    data = _opener(config, progress)
    stop = Stop()

    def plan() -> Planned:
        data().need_labels("training for int8")
        images = calibration_pictures(config, progress, data())
        if images.labels is None or not len(images.labels):
            raise BadInput(f"{config.data} has no select pictures to judge on", fix="Give more training pictures.")
        manifest = planned(source, target, config, data)

        def make() -> Manifest:
            return train_for_int8(
                source, target, config, dialect, manifest, data(), images, stop, force=force, progress=progress
            )

        return Planned(manifest, make)

    with stop.listening():
        manifest, made = make_artifact(target, plan, force=force, progress=progress)
    return QatResult(target, made, manifest.facts, manifest.measured)


def planned(source: Path, target: Path, config: QuantizeConfig, data: Opener) -> Manifest:
    """The manifest of what is made of ``source`` before it is made: an int8 file, or a model file trained for int8."""
    parents = [file_parent(source, target)]
    if config.data is not None or config.synthetic:
        parents.append(calibration_parent(config, None if config.data is None else data()))
    fields = recorded(
        config, "ranges", *BARS
    )  # where statistics are kept, and what is asked of the file, does not change it
    if config.qat_teacher is not None:
        teacher = Path(config.qat_teacher)
        parents.append(file_parent(teacher, target, "teacher"))
        fields["qat_teacher"] = teacher.name
    dialect = _dialect(config)
    if config.choices is not None:
        from deploykit.quantization.tune import read_placement

        choices, _ = read_placement(config.choices, parents[0].sha256, dialect.isa)
        parents.append(Parent("choices", choices.sha256, name=Path(config.choices).name))
        fields["choices"] = Path(config.choices).name
    row = target_of(config.target)
    hardware: dict[str, object] = {"isa": dialect.isa} if row.on_cpu else {}
    if config.tune:
        hardware["cpu"] = cpu()["model"]
    trains = config.method == "qat"
    exporting = () if source.suffix.lower() == ".onnx" else EXPORT.libraries
    return STAGE.manifest(
        "model" if trains else "onnx",
        fields,
        parents,
        precision="fp32" if trains else "int8",
        target=None if trains else config.target,
        versions=library_versions((*exporting, *(row.libraries if row.on_cpu else ()))),
        hardware=hardware,
    )


def default_name(source: Path, target: str) -> str:
    """What the int8 file of ``source`` for ``target`` is called: files for several targets can lie side by side."""
    return f"{source.stem}.int8.onnx" if target == ORT_CPU else f"{source.stem}.int8.{target}.onnx"


def _dialect(config: QuantizeConfig) -> Dialect:
    from deploykit.quantization.qdq.dialects import dialect_of

    dialect = dialect_of(config.target, config.isa)
    if config.weight_bits is None and config.method != "qat":
        return dialect
    return dialect.of_width(config.weight_bits or dialect.weight_bits)


def _opener(config: QuantizeConfig, progress: Progress) -> Opener:
    return opener(config.data, allow_code=config.allow_code, skip_broken=config.skip_broken, progress=progress)
