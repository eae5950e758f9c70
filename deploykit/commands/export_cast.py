"""``deploykit export --precision fp16|bf16``: a model file or an ONNX file → a 16-bit ONNX file, verified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from deploykit.base.artifact import Manifest, files_of, portable_data_name, write_manifest
from deploykit.base.errors import BadInput
from deploykit.base.progress import Progress
from deploykit.config.export import ExportConfig

if TYPE_CHECKING:
    import numpy as np

    from deploykit.engines.metadata import Knowledge

HELD = 32
OF_EXPORT = ("opset", "batch", "embed_preprocessing", "exporter", "arch")


def default_output(source: Path, config: ExportConfig) -> Path:
    """``model.onnx`` beside the model, ``model.fp16.onnx`` where it is cast."""
    return source.with_suffix(".onnx" if config.precision == "fp32" else f".{config.precision}.onnx")


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


@dataclass(frozen=True)
class _Pictures:
    """Pictures whose ranges are measured, and those the result is verified on."""

    seen: Sequence[np.ndarray]
    held: Sequence[np.ndarray]
    source: str


def cast_export(
    source: Path, target: Path, config: ExportConfig, manifest: Manifest, progress: Progress
) -> tuple[tuple[str, ...], Manifest]:
    """Export where needed, cast, verify and write ``target`` with its manifest.

    Returns:
        The names of the files written, and the manifest.

    Raises:
        BadInput: no float32 graph, no pictures or preprocessing.
        AnswerNo: the cast graph is too far from the float one, whatever is kept in float32.
    """
    import onnx_ir as ir

    from deploykit.exporting.cast.cast import cast_graph
    from deploykit.exporting.write_onnx import place, scratch, write

    if config.precision == "bf16" and not config.keep_io:
        progress.say("inputs and outputs stay float32: numpy has no bf16")
    with TemporaryDirectory(prefix="deploykit-") as folder:
        path, exported = _float_graph(source, Path(folder), config, progress)
        known = _knowledge(path, config)
        assert known.preprocessing is not None
        pictures = _pictures(source, known.preprocessing.size, config, progress)
        cast = cast_graph(
            path,
            config.precision,
            pictures.seen,
            held=pictures.held,
            preprocessing=known.preprocessing,
            keep_io=config.keep_io or config.precision == "bf16",
            keep_float=config.keep_float,
            threads=config.threads or 1,
            size=config.size,
            progress=progress,
        )
    facts = {key: value for key, value in cast.facts.items() if key != "parity"}
    if facts["nodes_float"]:
        progress.say(f"{facts['nodes_float']} nodes stay float32: {_first(facts['kept_float'])}")
    with scratch(target) as place_in:
        files = [one.name for one in write(ir.from_proto(cast.proto), place_in / target.name)]
        written = place(place_in, target, files)
    manifest = replace(
        manifest,
        precision="int8" if known.precision == "int8" else config.precision,
        files=files_of(*written),
        preprocessing=known.preprocessing.to_dict(),
        classes=known.classes,
        facts={
            **({"export": exported} if exported else {}),
            "cast": facts,
            "parity": cast.facts["parity"],
            "verified_on": pictures.source,
        },
    )
    write_manifest(target, manifest)
    return tuple(files), manifest


def summary_of(output: Path, facts: dict[str, Any]) -> str:
    """For people."""
    cast, parity = facts["cast"], facts["parity"]
    quality = "identical" if parity["identical"] else f"SNR {parity['snr_db']:.1f} dB"
    kept = f", {cast['nodes_float']} in float32 ({_first(cast['kept_float'])})" if cast["nodes_float"] else ""
    return (
        f"{output}: {cast['nodes_16_bit']} nodes in {cast['precision']}{kept}, {cast['casts']} casts, opset "
        f"{cast['opset']}; verified against float32 with every value rounded, on {parity['n']} pictures "
        f"({facts['verified_on']}): {quality}, top-1 agreement {parity['top1_agreement']:.4f}"
    )


def _first(kept: dict[str, str]) -> str:
    name, why = next(iter(kept.items()))
    return f"{name}: {why}" + (f", and {len(kept) - 1} more" if len(kept) > 1 else "")


def _float_graph(
    source: Path, folder: Path, config: ExportConfig, progress: Progress
) -> tuple[Path, dict[str, Any] | None]:
    """The float ONNX file, and the facts of its export where that was done here."""
    if source.suffix.lower() == ".onnx":
        from deploykit.exporting.check_onnx import refuse_unsound

        refuse_unsound(source)
        return source, None
    from deploykit.exporting.onnx_file import export_onnx

    path, plain = folder / f"{source.stem}.onnx", config.but(precision="fp32", keep_io=False, keep_float=())
    described, _ = export_onnx(source, path, plain, progress=progress)
    return path, described.facts


def _knowledge(path: Path, config: ExportConfig) -> Knowledge:
    import onnx

    from deploykit.engines.metadata import of_file

    model = onnx.load(str(path), load_external_data=False)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    embedded = model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    known = of_file(path, metadata, size=config.size, embedded=embedded)
    if known.preprocessing is None:
        raise BadInput(f"{path} does not carry its preprocessing", fix="Name the input size with --size.")
    return known


def _pictures(source: Path, size: tuple[int, int], config: ExportConfig, progress: Progress) -> _Pictures:
    """From the data, ranges on ``train`` and verification on ``select``; else the model's samples, else synthetic ones."""
    from deploykit.evaluation.split_images import pictures_for, samples_of

    if config.data is not None:
        from deploykit.config.quantize import QuantizeConfig
        from deploykit.quantization.calibration_images import calibration_pictures

        wanted = QuantizeConfig(
            data=config.data, images=config.images, select_images=HELD, seed=config.seed, allow_code=config.allow_code
        )
        drawn = calibration_pictures(wanted, progress)
        return _Pictures(
            [drawn.observed[i] for i in range(len(drawn.observed))], drawn.chosen, portable_data_name(config.data)
        )
    found = pictures_for(
        data=None,
        samples=samples_of(source),
        size=size,
        limit=HELD,
        seed=config.seed,
        require_real=config.require_real,
        progress=progress,
    )
    half = max(1, len(found.images) // 2)
    progress.warn(
        f"ranges of only {half} pictures ({found.source}) decide what stays float32: name --data for more of them"
    )
    return _Pictures(found.images[:half], found.images, found.source)
