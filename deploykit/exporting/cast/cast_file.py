"""A float32 graph in 16 bits as a file, verified before it is called done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx_ir as ir

from deploykit.base.artifact import Manifest, write_model_manifest
from deploykit.base.atomic import scratch
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.progress import Progress
from deploykit.config.export import ExportConfig
from deploykit.engines.metadata import Knowledge, of_file
from deploykit.engines.onnx_graph import declared_by
from deploykit.evaluation.split_images import pictures_for, samples_of
from deploykit.exporting.cast.cast import cast_graph
from deploykit.exporting.check_onnx import known_preprocessing
from deploykit.exporting.onnx_file import float_graph
from deploykit.exporting.write_onnx import check_data_file, place, write

HELD = 32


@dataclass(frozen=True)
class CastImages:
    """Pictures whose ranges are measured, and those the result is verified on.

    ``seen``: uint8 ``[H, W, 3]`` each. ``source``: name of the data, ``samples`` or ``synthetic``. ``split``: those that are
    verified on.
    """

    seen: Sequence[np.ndarray]
    held: Sequence[np.ndarray]
    source: str
    split: str = ""


def cast_file(
    source: Path,
    target: Path,
    config: ExportConfig,
    manifest: Manifest,
    drawn: CastImages | None,
    *,
    force: bool,
    progress: Progress,
) -> Manifest:
    """Export where needed, cast, verify and write ``target`` with its manifest.

    ``source``: a model file, or a float32 ONNX file. ``drawn``: of the data that is named; None: the model's samples,
    else synthetic pictures. Returns the manifest as written.

    Raises:
        BadInput: no float32 graph, no pictures or preprocessing.
        AnswerNo: the model cannot be exported.
    """
    check_data_file(target, force=force)
    if config.precision == "bf16" and not config.keep_io:
        progress.say("inputs and outputs stay float32: numpy has no bf16")
    with TemporaryDirectory(prefix="deploykit-") as folder:
        of_cast = dict(keep_io=False, keep_float=(), min_agreement=None, min_snr_db=None, accept=False)
        plain = config.but(precision="fp32", **of_cast)
        path, exported = float_graph(source, Path(folder), plain, progress)
        known = _knowledge(path, config)
        assert known.preprocessing is not None
        images = drawn or _own_images(source, known.preprocessing, config, progress)
        cast = cast_graph(
            path,
            config.precision,
            images.seen,
            held=images.held,
            preprocessing=known.preprocessing,
            keep_io=config.keep_io or config.precision == "bf16",
            keep_float=config.keep_float,
            threads=config.threads or 1,
            stated=config.stated,
            progress=progress,
        )
    verdict = (
        None if cast.facts["verdict"] is None else {**cast.facts["verdict"], "split": images.split or images.source}
    )
    facts = {key: value for key, value in cast.facts.items() if key not in ("parity", "verdict")}
    if facts["nodes_float"]:
        progress.say(f"{facts['nodes_float']} nodes stay float32: {first_kept(cast.facts['kept_float'])}")
    with scratch(target) as place_in:
        files = [one.name for one in write(ir.from_proto(cast.proto), place_in / target.name)]
        written = place(place_in, target, files)
    told = {
        **({"export": exported} if exported else {}),
        "cast": facts,
        "parity": cast.facts["parity"],
        "verdict": verdict,
        "verified_on": images.source,
    }
    precision = "int8" if known.precision == "int8" else config.precision
    manifest = replace(manifest, precision=precision, task=known.task)
    return write_model_manifest(written, manifest, known.preprocessing, known.classes, told)


def first_kept(kept: dict[str, str]) -> str:
    """The first of the nodes that stay float32 with its reason, and how many more there are."""
    name, why = next(iter(kept.items()))
    return f"{name}: {why}" + (f", and {len(kept) - 1} more" if len(kept) > 1 else "")


def _knowledge(path: Path, config: ExportConfig) -> Knowledge:
    declared = declared_by(path)
    known = of_file(path, declared, config.stated)
    known_preprocessing(known.preprocessing, declared.inputs, path)
    return known


def _own_images(source: Path, preprocessing: Preprocessing, config: ExportConfig, progress: Progress) -> CastImages:
    """The model's samples, else synthetic pictures: half of them for ranges."""
    found = pictures_for(
        data=None,
        samples=samples_of(source),
        size=preprocessing.size,
        channels=preprocessing.channels,
        limit=HELD,
        seed=config.seed,
        require_real=config.require_real,
        progress=progress,
    )
    half = max(1, len(found.images) // 2)
    progress.warn(
        f"ranges of only {half} pictures ({found.source}) decide what stays float32: name --data for more of them"
    )
    return CastImages(found.images[:half], found.images, found.source)
