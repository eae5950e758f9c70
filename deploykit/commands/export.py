"""``deploykit export``: a model file → an ONNX file that was verified against eager PyTorch before it is called done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deploykit.base.artifact import Made, Manifest
from deploykit.base.atomic import JsonObject
from deploykit.base.checkpoint import check_file
from deploykit.base.progress import SILENT, Progress
from deploykit.commands.export_cast import check_cast, export_cast, summary_of
from deploykit.commands.stage import (
    BARS,
    Opener,
    Planned,
    Stage,
    data_parents,
    file_parent,
    held_to,
    make_artifact,
    opener,
    output_path,
    recorded,
)
from deploykit.config.export import ExportConfig
from deploykit.config.keywords import by_keywords
from deploykit.evaluation.judge import Bars, verdict_of
from deploykit.exporting.onnx_file import export_onnx

LIBRARIES = ("deploykit", "torch", "torchvision", "onnx", "onnxscript", "onnx-ir", "onnxruntime", "onnxruntime-gpu")
STAGE = Stage("export", 3, LIBRARIES)


@dataclass(frozen=True)
class ExportResult(Made):
    """What an export made.

    Attributes:
        output: the ONNX file.
        made: False where the identical file was there already.
        facts: exporter, tried, opset, batch, outputs, nodes, batch_norms_left, verified_on, parity, notes; of a 16-bit file
            cast, verdict.
        files: names of all its files.
    """

    files: tuple[str, ...] = ()

    def to_dict(self) -> JsonObject:
        """The object of ``--json``."""
        return {**super().to_dict(), "files": list(self.files)}

    def summary(self) -> str:
        """For people."""
        facts = self.facts
        if not self.made:
            told = f"{self.output} is up to date: same model, options and versions; nothing done"
            return told if self.status == "ok" else f"{told}; {verdict_of(facts['verdict']).line()}"
        if "cast" in facts:
            return summary_of(self.output, facts)
        parity = facts["parity"]
        quality = "identical" if parity["identical"] else f"SNR {parity['snr_db']:.1f} dB"
        batches = ", ".join(str(one["batch"]) for one in parity["by_batch"])
        return (
            f"{self.output}: opset {facts['opset']}, batch {facts['batch']}, {facts['exporter']} exporter, "
            f"{sum(facts['nodes'].values())} nodes, {facts['batch_norms_left']} BatchNorms left; verified against "
            f"PyTorch on {parity['n']} pictures ({facts['verified_on']}) at batch {batches}: {quality}"
        )


@by_keywords(ExportConfig, modules=("model",))
def export(
    model: Path | str,
    output: Path | str | None = None,
    config: ExportConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> ExportResult:
    """Export ``model`` to ONNX and verify the file.

    Args:
        model: a ``.pt``, ``.pth``, ``.safetensors`` or ``.pt2`` file; an ``.onnx`` where it is only cast to a precision.
        output: default: beside the model, ``model.onnx``, or ``model.fp16.onnx``.
        config: how.
        force: replace an output that is not ours.
        progress: where it shows.

    Raises:
        BadInput: the model cannot be read, has several inputs, no known size; the output may not be replaced.
        AnswerNo: no exporter gives a file that agrees with PyTorch; the line names each one's reason.
        SystemTrouble: the disk is full.
    """
    config = config or ExportConfig()
    source = check_file(Path(model))
    if source.suffix.lower() == ".onnx":
        check_cast(source, config)
    target = output_path(output, default_output(source, config), ".onnx", source)
    data = opener(config.data, allow_code=config.allow_code, progress=progress)

    def plan() -> Planned:
        manifest = planned(source, target, config, data)

        def make() -> Manifest:
            if config.precision == "fp32":
                return export_onnx(source, target, config, manifest, force=force, progress=progress)
            return export_cast(source, target, config, manifest, data, force=force, progress=progress)

        return Planned(manifest, make)

    manifest, made = make_artifact(target, plan, force=force, progress=progress)
    manifest = held_to(target, manifest, Bars(config.min_agreement, config.min_snr_db, accept=config.accept))
    return ExportResult(target, made, manifest.facts, manifest.measured, tuple(manifest.files))


def default_output(source: Path, config: ExportConfig) -> Path:
    """``model.onnx`` beside the model, ``model.fp16.onnx`` where it is cast."""
    return source.with_suffix(".onnx" if config.precision == "fp32" else f".{config.precision}.onnx")


def planned(source: Path, target: Path, config: ExportConfig, data: Opener) -> Manifest:
    """The manifest of the ONNX file of ``source`` before it is made."""
    parents = [file_parent(source, target)]
    if config.data is not None:
        exported = source.suffix.lower() != ".onnx"  # and verified on test
        cast = config.precision != "fp32"  # by ranges of train, and verified on the rest and select
        splits = (*(("train", "select") if cast else ()), *(("test",) if exported else ()))
        parents += data_parents(config.data, data(), *splits)
    return STAGE.manifest("onnx", recorded(config, *BARS), parents, precision=config.precision)
