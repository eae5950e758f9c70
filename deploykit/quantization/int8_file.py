"""A float network → its int8 ONNX file: calibrated, chosen, verified and audited before it is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx

from deploykit.base.artifact import Manifest
from deploykit.base.checkpoint import is_model_file, read_tensors
from deploykit.base.errors import AnswerNo
from deploykit.base.progress import Progress
from deploykit.base.runner import Runner
from deploykit.config.quantize import QuantizeConfig
from deploykit.engines.batching import one_batch
from deploykit.evaluation.graph_runner import Opened, logits_of
from deploykit.quantization.analyze import SCHEMA, swept
from deploykit.quantization.calibration_images import Calibration
from deploykit.quantization.cast_rest import cast_rest
from deploykit.quantization.layer_profile import slower_layers
from deploykit.quantization.max_drop import DropFacts, Held
from deploykit.quantization.ptq import (
    choose,
    describe,
    float_onnx,
    judge,
    linted,
    recovery_of,
    refuse_float,
    see,
    write_int8,
)
from deploykit.quantization.qdq.dialects import Dialect
from deploykit.quantization.reestimate_batch_norm import with_batch_norm
from deploykit.quantization.search import Choice, Quantizer
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
        AnswerNo: the int8 file does not agree with the float one within int8's budget.
    """
    with TemporaryDirectory(prefix="deploykit-") as scratch:
        return _quantize(source, target, config, dialect, manifest, images, Path(scratch), progress)


def _quantize(
    source: Path,
    target: Path,
    config: QuantizeConfig,
    dialect: Dialect,
    manifest: Manifest,
    images: Calibration,
    scratch: Path,
    progress: Progress,
) -> Manifest:
    model_file, batch_norm = with_batch_norm(source, scratch, config, images, progress)
    path = float_onnx(model_file, scratch, config, progress)
    opened = Opened(scratch, threads=config.threads, size=config.size, integer_kernels=dialect.timed)
    with opened.runner(path) as reference:
        seen = see(path, reference, config, dialect, images, opened, progress)
        proto, preprocessing, classes, x = seen.proto, seen.preprocessing, seen.classes, seen.x
        recovery = recovery_of(config, images, preprocessing, x, seen.logits, opened, progress)
        quantizer = recovery.equalized(seen.quantizer, Choice(keep_float=frozenset(config.keep_float)))
        choice, snr = choose(quantizer, config, x, seen.logits, opened, progress)
        quantizer = recovery.adapted(quantizer, choice)
        choice, held = _hold_drop(
            quantizer, choice, config, images, classes, seen.pictures, reference, opened, progress
        )
        shown = _sensitivity(quantizer, choice, config, images, manifest, x, opened, progress)
        made = quantizer.make(choice)
        refuse_float(made, quantizer, choice, source, opened, x)
        describe(made, proto)
        onnx.checker.check_model(made, full_check=True)
        rest = cast_rest(made, config, images, preprocessing, scratch, progress)
        made = rest.made
        candidate = scratch / target.name
        onnx.save(rest.judged, str(candidate))
        judged = judge(reference, candidate, images.chosen, x, opened, dialect, progress)
        slow = judged["speedup"] is not None and judged["speedup"] < 1 and dialect.timed
        slower = slower_layers(opened, proto, made, one_batch(reference, x), progress) if slow else None
    facts = {
        "choice": choice.said(),
        "snr_db": {name: round(value, 2) for name, value in snr.items()},
        "max_drop": held,
        "recovery": recovery.facts | {"batch_norm": batch_norm},
        "cast": rest.facts,
        "images": len(images.observed),
        "calibrated_on": "synthetic" if config.data is None else images.name,
        **judged,
        **({"slower": slower} if slower is not None else {}),
        "lint": linted(made, config.target, progress),
    }
    if not judged["parity"]["ok"]:
        raise AnswerNo(
            f"int8 of {source} is too far from float: {nearness(judged['parity'])}",
            expected="at least 10 dB and 0.95",
            fix="Keep layers float with --keep-float, or calibrate on more pictures.",
        )
    return write_int8(target, made, manifest, preprocessing, classes, facts, shown)


def _sensitivity(
    quantizer: Quantizer,
    choice: Choice,
    config: QuantizeConfig,
    images: Calibration,
    manifest: Manifest,
    x: np.ndarray,
    opened: Opened,
    progress: Progress,
) -> list[Attachment]:
    """What int8 costs each layer, for the report; nothing where it was not asked for."""
    if not config.sensitivity:
        return []
    model = manifest.parents[0]
    analysis = {
        "schema": SCHEMA,
        "model": {"name": model.name, "sha256": model.sha256},
        "target": config.target,
        "method": choice.method,
        "data": images.name,
        "calibration_images": len(images.observed),
        **swept(quantizer, choice, x, opened, ("alone",), progress),
    }
    return [sensitivity(f"Sensitivity of {model.name} to int8, layer by layer", "quantize", analysis)]


def _hold_drop(
    quantizer: Quantizer,
    choice: Choice,
    config: QuantizeConfig,
    images: Calibration,
    classes: tuple[str, ...] | None,
    x: np.ndarray,
    reference: Runner,
    opened: Opened,
    progress: Progress,
) -> tuple[Choice, DropFacts | None]:
    if config.max_drop is None:
        return choice, None
    logits = logits_of(reference, x)
    return Held(config, images, classes, x, logits, opened, progress).choice(quantizer, choice)


def nearness(parity: Mapping[str, Any]) -> str:
    """SNR and agreement of a parity, rounded for people."""
    snr, agreement = parity["snr_db"], parity["top1_agreement"]
    shown = "undefined SNR" if snr is None else f"SNR {snr:.1f} dB"
    return shown if agreement is None else f"{shown}, top-1 agreement {agreement:.3f}"
