"""``deploykit quantize --analyze``: what int8 costs each layer, as JSON and as a page."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import onnx
import onnx_ir as ir

from deploykit.base.artifact import (
    Manifest,
    Parent,
    already_made,
    artifact_sha256,
    files_of,
    portable_data_name,
    write_manifest,
)
from deploykit.base.atomic import JsonObject, write_json, write_text
from deploykit.base.checkpoint import check_file
from deploykit.base.command_result import Result
from deploykit.base.environment import library_versions
from deploykit.base.errors import BadInput
from deploykit.base.progress import SILENT, Progress
from deploykit.config.keywords import by_keywords
from deploykit.config.quantize import AnalyzeConfig
from deploykit.data import prepare as prepare_images
from deploykit.exporting.check_onnx import known_preprocessing, refuse_other_pictures
from deploykit.quantization.calibrate import observed
from deploykit.quantization.calibration_images import calibration_pictures
from deploykit.quantization.job import Job, graphs
from deploykit.quantization.ptq import float_onnx
from deploykit.quantization.qdq.dialects import dialect_of
from deploykit.quantization.qdq.prepare import prepare
from deploykit.quantization.search import Choice, Quantizer
from deploykit.quantization.sensitivity import (
    ActivationFacts,
    LayerScore,
    WeightFacts,
    activation_facts,
    logits_of,
    roundings,
    score,
    sweep,
    weight_facts,
)
from deploykit.reporting.attachments.sensitivity_analysis import Sensitivity, to_page

STAGE_VERSION = 1
LIBRARIES = ("deploykit", "onnx", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "numpy")
SCHEMA = "deploykit.sensitivity/1"
SHOWN = 60


@dataclass(frozen=True)
class AnalyzeResult(Result):
    """What an analysis found.

    ``output``: the JSON file; the page lies beside it. ``made``: False where the identical file was there already.
    ``analysis``: content of the JSON file.
    """

    output: Path
    made: bool
    analysis: Mapping[str, Any]

    @property
    def page(self) -> Path:
        """The page for people."""
        return self.output.with_suffix(".html")

    def to_dict(self) -> JsonObject:
        """The object of ``--json``."""
        analysis = {key: value for key, value in self.analysis.items() if key != "schema"}
        return {"output": str(self.output), "page": str(self.page), "made": self.made, **analysis}

    def summary(self) -> str:
        """A table for people, the most harmful layer first."""
        layers = self.analysis["layers"]
        modes = self.analysis["modes"]
        width = max([5, *(len(one["name"]) for one in layers)])
        head = [f"{'layer':<{width}}  {'type':<7}"]
        head += [f"{'KL ' + mode:>16}  {'SNR dB':>7}" for mode in modes]
        lines = ["  ".join(head)]
        for one in layers[:SHOWN]:
            cells = [f"{one['name']:<{width}}  {one['op_type']:<7}"]
            cells += [f"{one['scores'][m]['kl']:>16.3g}  {one['scores'][m]['snr_db']:>7.1f}" for m in modes]
            lines.append("  ".join(cells))
        if len(layers) > SHOWN:
            lines.append(f"… and {len(layers) - SHOWN} more")
        whole = self.analysis["whole"]
        lines.append(f"all of them quantized: KL {whole['kl']:.3g}, SNR {whole['snr_db']:.1f} dB")
        lines.append(f"wrote {self.output} and {self.page}" if self.made else f"{self.output} is up to date")
        return "\n".join(lines)


@by_keywords(AnalyzeConfig, modules=("model",))
def analyze(
    model: Path | str,
    output: Path | str | None = None,
    config: AnalyzeConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> AnalyzeResult:
    """Score what int8 costs each layer of ``model``, from one calibration.

    ``output``: default: beside the model, ``model.analysis.json``; the page gets the suffix ``.html``.

    Raises:
        BadInput: no data, a target without int8, a model that is quantized already or cannot be read.
    """
    config = config or AnalyzeConfig()
    dialect = dialect_of(config.target, config.isa)
    source = check_file(Path(model))
    target = Path(output) if output is not None else source.with_name(f"{source.stem}.analysis.json")
    if target.suffix != ".json":
        raise BadInput("the output's name", got=target.name, expected="a name that ends with .json")
    if config.data is None and not config.synthetic:
        raise BadInput("no calibration data", expected="--data", fix="Name data, or pass --synthetic.")
    images = calibration_pictures(config, progress)
    recorded = config.plain() | {"data": portable_data_name(config.data) if config.data else None}
    recorded.pop("ranges")
    manifest = Manifest(
        kind="analysis",
        files={},
        stage="analyze",
        version=STAGE_VERSION,
        config=recorded,
        parents=(
            Parent("model", artifact_sha256(source), os.path.relpath(source, target.parent), source.stem),
            Parent("data", images.sha256, name=images.name),
        ),
        target=config.target,
        versions=library_versions(LIBRARIES),
    )
    if already_made(target, manifest.key, force=force):
        return AnalyzeResult(target, False, json.loads(target.read_text(encoding="utf-8")))
    with graphs(config, dialect) as opened:
        found = _analysis(source, config.modes, Job(config, dialect, images, opened, progress))
    made = {"schema": SCHEMA, "model": {"name": source.stem, "sha256": manifest.parents[0].sha256}, **found}
    result = AnalyzeResult(target, True, made)
    write_json(target, made)
    write_text(result.page, to_page(Sensitivity.model_validate_json(json.dumps(made))))
    write_manifest(target, replace(manifest, files=files_of(target, result.page)))
    return result


def _analysis(source: Path, modes: tuple[str, ...], job: Job) -> Swept:
    config, images = job.config, job.images
    path = float_onnx(source, job.scratch, config, job.progress)
    with job.opened.runner(path) as reference:
        preprocessing = known_preprocessing(reference.preprocessing, reference.inputs, path)
        x = prepare_images(images.chosen, preprocessing)
        refuse_other_pictures(reference, x[:1])
    proto = onnx.load(str(path))
    quantizer = Quantizer(
        proto, observed(prepare(proto, str(path)), preprocessing, job), config.percentile, job.dialect
    )
    method = "mse" if config.method == "auto" else config.method
    choice = Choice(keep_float=frozenset(config.keep_float), method=method)
    return swept(quantizer, choice, x, modes, job)


class Scores(TypedDict):
    """Divergence in nats, SNR of the logits in dB, share of equal top-1 answers."""

    kl: float
    snr_db: float
    agreement: float


class AnalyzedLayer(TypedDict):
    """One layer: its scores by mode, and what its input and weight look like."""

    name: str
    op_type: str
    scores: dict[str, Scores]
    input: ActivationFacts
    weights: WeightFacts


class Swept(TypedDict):
    """What int8 costs each layer, and all of them together, on a number of pictures."""

    target: str
    method: str
    data: str
    calibration_images: int
    images: int
    modes: list[str]
    whole: Scores
    layers: list[AnalyzedLayer]


def swept(quantizer: Quantizer, choice: Choice, x: np.ndarray, modes: tuple[str, ...], job: Job) -> Swept:
    """What int8 costs each layer of a quantizer's network on prepared pictures ``x``, and all of them together."""
    open_graph = job.opened.graph
    scores = sweep(quantizer, choice, x, open_graph, modes, job.progress)
    logits = logits_of(ir.to_proto(prepare(quantizer.proto)), x, open_graph)
    whole = score("", "all", logits, logits_of(quantizer.make(choice), x, open_graph))
    return {
        "target": job.config.target,
        "method": choice.method,
        "data": job.images.name,
        "calibration_images": len(job.images.observed),
        "images": len(logits),
        "modes": list(modes),
        "whole": {"kl": whole.kl, "snr_db": whole.snr_db, "agreement": whole.agreement},
        "layers": _layers(quantizer, choice, scores, modes),
    }


def _layers(
    quantizer: Quantizer, choice: Choice, scores: list[LayerScore], modes: tuple[str, ...]
) -> list[AnalyzedLayer]:
    """One row a layer, in the order of the first mode's scores, with what its tensors look like."""
    model, found = roundings(quantizer, choice)
    nodes = {node.name: node for node in model.graph}
    rows: list[AnalyzedLayer] = []
    for first in (one for one in scores if one.mode == modes[0]):
        how = found[first.layer]
        rows.append(
            {
                "name": how.layer,
                "op_type": how.op_type,
                "scores": {
                    one.mode: {"kl": one.kl, "snr_db": one.snr_db, "agreement": one.agreement}
                    for one in scores
                    if one.layer == how.layer
                },
                "input": activation_facts(quantizer.seen[how.source], how.read),
                "weights": weight_facts(nodes[how.layer], how),
            }
        )
    return rows
