"""``deploykit export``: a model file → an ONNX file that was verified against eager PyTorch before it is called done."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploykit.base.artifact import refuse_input
from deploykit.base.command_result import Result
from deploykit.base.errors import BadInput
from deploykit.base.lock import alone_with
from deploykit.base.progress import SILENT, Progress
from deploykit.commands.export_cast import cast_export, check_cast, default_output, summary_of
from deploykit.config.export import ExportConfig
from deploykit.config.keywords import by_keywords
from deploykit.exporting import onnx_file

STAGE_VERSION = onnx_file.STAGE_VERSION


@dataclass(frozen=True)
class ExportResult(Result):
    """What an export made.

    Attributes:
        output: the ONNX file.
        files: names of all its files.
        made: False where the identical file was there already.
        facts: exporter, tried, opset, batch, outputs, nodes, batch_norms_left, verified_on, parity, notes.
    """

    output: Path
    files: tuple[str, ...]
    made: bool
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The object of ``--json``."""
        return {"output": str(self.output), "files": list(self.files), "made": self.made, **self.facts}

    def summary(self) -> str:
        """For people."""
        facts = self.facts
        if not self.made:
            return f"{self.output} is up to date: same model, options and versions; nothing done"
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


@by_keywords(ExportConfig)
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
    from deploykit.base.checkpoint import check_file

    config = config or ExportConfig()
    source = check_file(Path(model))
    if source.suffix.lower() == ".onnx":
        check_cast(source, config)
    target = Path(output) if output is not None else default_output(source, config)
    if target.suffix != ".onnx":
        raise BadInput("the output's name", got=target.name, expected="a name that ends with .onnx")
    refuse_input(target, source)
    with alone_with(target, progress):
        return _made(source, target, config, force, progress)


def _made(source: Path, target: Path, config: ExportConfig, force: bool, progress: Progress) -> ExportResult:
    if config.precision == "fp32":
        described, made = onnx_file.export_onnx(source, target, config, force=force, progress=progress)
        return ExportResult(target, tuple(described.files), made, described.facts)
    manifest = onnx_file.manifest_of(source, target, config)
    if (known := onnx_file.known_output(target, manifest, force=force)) is not None:
        return ExportResult(target, tuple(known.files), False, known.facts)
    files, manifest = cast_export(source, target, config, manifest, progress)
    return ExportResult(target, files, True, manifest.facts)
