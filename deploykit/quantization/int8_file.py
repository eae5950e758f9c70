"""A float network → its int8 ONNX file: calibrated, chosen, verified and audited before it is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from deploykit.base.artifact import Manifest, Parent
from deploykit.base.checkpoint import is_model_file, read_tensors
from deploykit.base.progress import Progress
from deploykit.config.quantize import QuantizeConfig
from deploykit.engines.batching import one_batch
from deploykit.evaluation.graph_runner import logits_of
from deploykit.quantization.analyze import SCHEMA, swept
from deploykit.quantization.calibration_images import Calibration
from deploykit.quantization.cast_rest import cast_rest
from deploykit.quantization.job import Job, graphs
from deploykit.quantization.layer_profile import slower_layers
from deploykit.quantization.max_drop import Held
from deploykit.quantization.ptq import (
    choose,
    describe,
    float_onnx,
    judge,
    linted,
    refuse_float,
    see,
    write_int8,
)
from deploykit.quantization.qdq.dialects import Dialect
from deploykit.quantization.recovery import equalize_network, recover_weights
from deploykit.quantization.reestimate_batch_norm import with_batch_norm
from deploykit.quantization.search import Choice, Quantizer
from deploykit.quantization.tune import keep_placement, read_placement, tuned
from deploykit.quantization.verify import weight_widths, with_drop
from deploykit.reporting.attachments import Attachment, sensitivity


def holds_ranges(source: Path) -> bool:
    """Whether a model file holds ranges of a training for int8."""
    if source.suffix.lower() in (".onnx", ".pt2"):
        return False
    content = read_tensors(source)
    return is_model_file(content) and content.get("ranges") is not None


def quantize_file(
    source: Path,
    target: Path,
    config: QuantizeConfig,
    dialect: Dialect,
    manifest: Manifest,
    images: Calibration,
    progress: Progress,
) -> Manifest:
    """Quantize ``source`` into ``target``.

    Returns the manifest as written, with the facts of :class:`deploykit.commands.quantize.QuantizeResult`.

    Raises:
        BadInput: a model that is quantized already or cannot be read.
        AnswerNo: no layer of it can be quantized.
    """
    with graphs(config, dialect) as opened:
        job = Job(config, dialect, images, opened, progress)
        with job.phase("open"):
            model_file, batch_norm = with_batch_norm(source, job)
            path = float_onnx(model_file, job.scratch, config, progress)
        with opened.runner(path) as reference:
            with job.phase("calibrate"):
                seen = see(path, reference, job)
            with job.phase("equalize"):
                seen, equalization = equalize_network(seen, job)
            with job.phase("choose"):
                placement = None
                if config.choices is not None:
                    placement = read_placement(config.choices, manifest.parents[0].sha256, dialect.isa)[1]
                choice, snr = choose(seen, job, placement)
            raced: dict[str, Any] = {}
            if config.tune:
                with job.phase("tune"):
                    choice, raced = tuned(seen, choice, job)
            with job.phase("recover"):
                quantizer, recovery = recover_weights(seen, choice, job)
            held = None
            if config.max_drop is not None:
                with job.phase("hold the drop"):
                    bound = Held(job, seen.classes, seen.pictures, logits_of(reference, seen.pictures))
                    choice, held = bound.choice(quantizer, choice)
            shown = _sensitivity(quantizer, choice, manifest.parents[0], seen.x, job) if config.sensitivity else []
            made = quantizer.make(choice)
            refuse_float(made, choice, source, dialect.target)
            describe(made, seen.proto)
            onnx.checker.check_model(made, full_check=True)
            rest = cast_rest(made, seen.preprocessing, job)
            candidate = job.scratch / target.name
            onnx.save(rest.judged, str(candidate))
            with job.phase("verify"):
                judged = judge(reference, candidate, seen.x, job)
            slow = judged["speedup"] is not None and judged["speedup"] < 1 and dialect.costed
            x = one_batch(reference, seen.x)
            slower = slower_layers(opened, seen.proto, rest.made, x, progress) if slow else None
    job.say_phases()
    if held is not None:
        judged["verdict"] = with_drop(judged["verdict"], held, config)
    facts = {
        "choice": choice.said(),
        "snr_db": {name: round(value, 2) for name, value in snr.items()},
        "max_drop": held,
        "engine_gap": seen.gap,
        "recovery": equalization | recovery | {"batch_norm": batch_norm},
        "cast": rest.facts,
        "images": len(images.observed),
        "calibrated_on": "synthetic" if config.data is None else images.name,
        **judged,
        **({"slower": slower} if slower is not None else {}),
        **({"weight_widths": weight_widths(rest.made)} if dialect.paired else {}),
        "lint": linted(rest.made, dialect, progress),
    }
    if raced:
        keep_placement(target, manifest, choice, raced, dialect.isa)
    manifest = replace(manifest, task=reference.task)
    return write_int8(target, rest.made, manifest, seen.preprocessing, seen.classes, facts, shown)


def _sensitivity(quantizer: Quantizer, choice: Choice, model: Parent, x: np.ndarray, job: Job) -> list[Attachment]:
    """What int8 costs each layer, for the report."""
    about = {"schema": SCHEMA, "model": {"name": model.name, "sha256": model.sha256}}
    analysis = about | swept(quantizer, choice, x, ("alone",), job)
    return [sensitivity(f"Sensitivity of {model.name} to int8, layer by layer", "quantize", analysis)]
