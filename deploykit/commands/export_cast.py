"""``deploykit export --precision fp16|bf16``: a model file or an ONNX file → a 16-bit ONNX file, verified."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploykit.base.artifact import Manifest, portable_data_name
from deploykit.base.errors import BadInput
from deploykit.base.progress import Progress
from deploykit.commands.stage import Opener
from deploykit.config.export import ExportConfig
from deploykit.evaluation.judge import verdict_of
from deploykit.exporting.cast.cast_file import HELD, CastImages, cast_file, first_kept

OF_EXPORT = ("opset", "batch", "embed_preprocessing", "exporter", "arch")


def check_cast(source: Path, config: ExportConfig) -> None:
    """Refuse what an ONNX file cannot be asked for.

    Raises:
        BadInput: no precision to cast to, or an option of the export itself.
    """
    if config.precision == "fp32":
        raise BadInput(
            f"{source} is an ONNX file already",
            expected="a model file (.pt, .pth, .safetensors, .pt2)",
            fix="To cast it, name --precision fp16 or bf16.",
        )
    plain = ExportConfig()
    for name in OF_EXPORT:
        if getattr(config, name) != getattr(plain, name):
            raise BadInput(
                f"--{name.replace('_', '-')} is of an export, {source} is only cast",
                got=getattr(config, name),
                fix="Leave it away, or start from the model file.",
            )


def export_cast(
    source: Path,
    target: Path,
    config: ExportConfig,
    manifest: Manifest,
    data: Opener,
    *,
    force: bool,
    progress: Progress,
) -> Manifest:
    """Cast ``source`` into ``target``: by ranges of ``train``, verified on what these did not see, where data are named.

    Raises:
        BadInput: no float32 graph, no pictures or preprocessing.
        AnswerNo: the model cannot be exported.
    """
    drawn = None
    if config.data is not None:
        from deploykit.config.quantize import QuantizeConfig
        from deploykit.quantization.calibration_images import calibration_pictures

        wanted = QuantizeConfig(
            data=config.data, images=config.images, select_images=HELD, seed=config.seed, allow_code=config.allow_code
        )
        found = calibration_pictures(wanted, progress, data())
        seen = [found.observed[i] for i in range(len(found.observed))]
        assert found.judged is not None
        drawn = CastImages(seen, found.judged.images, portable_data_name(config.data), found.judged.split)
    return cast_file(source, target, config, manifest, drawn, force=force, progress=progress)


def summary_of(output: Path, facts: Mapping[str, Any]) -> str:
    """For people."""
    cast = facts["cast"]
    kept = f", {cast['nodes_float']} in float32 ({first_kept(cast['kept_float'])})" if cast["nodes_float"] else ""
    return (
        f"{output}: {cast['nodes_16_bit']} nodes in {cast['precision']}{kept}, {cast['casts']} casts, opset "
        f"{cast['opset']}; against float32, with every value rounded: {verdict_of(facts['verdict']).line()}"
    )
