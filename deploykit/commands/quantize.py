"""``deploykit quantize``: a float model → an int8 ONNX file in the dialect of its target, verified and audited."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from deploykit.base.artifact import (
    Manifest,
    Parent,
    already_made,
    files_of,
    read_manifest,
    refuse_input,
    write_manifest,
)
from deploykit.base.errors import AnswerNo, BadInput
from deploykit.base.lock import alone_with
from deploykit.base.progress import SILENT, Progress
from deploykit.config.keywords import by_keywords
from deploykit.config.quantize import QuantizeConfig
from deploykit.engines.batching import one_batch
from deploykit.evaluation.graph_runner import Opened, logits_of
from deploykit.quantization.calibration_images import Calibration, calibration_pictures
from deploykit.quantization.cast_rest import cast_rest, check_precision
from deploykit.quantization.layer_profile import slower_layers
from deploykit.quantization.ptq import (
    QuantizeResult,
    choose,
    describe,
    float_onnx,
    judge,
    linted,
    manifest_of,
    recovery_of,
    refuse_float,
    see,
    write_onnx,
)
from deploykit.quantization.reestimate_batch_norm import with_batch_norm
from deploykit.reporting.attachments.files import attach

if TYPE_CHECKING:
    import numpy as np

    from deploykit.base.runner import Runner
    from deploykit.quantization.qat.qat import QatResult
    from deploykit.quantization.qdq.dialects import Dialect
    from deploykit.quantization.search import Choice, Quantizer
    from deploykit.reporting.attachments import Attachment

STAGE_VERSION = 7


@by_keywords(QuantizeConfig)
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
        AnswerNo: the int8 file does not agree with the float one within int8's budget; nothing is written.
    """
    from deploykit.base.checkpoint import check_file
    from deploykit.quantization.qdq.dialects import dialect_of

    config = config or QuantizeConfig()
    dialect = dialect_of(config.target)
    check_precision(config)
    source = check_file(Path(model))
    if config.method == "qat":
        from deploykit.quantization.qat.qat import train_for_int8

        return train_for_int8(source, output, config, dialect, STAGE_VERSION, force=force, progress=progress)
    target = Path(output) if output is not None else source.with_name(default_name(source, config.target))
    if target.suffix != ".onnx":
        raise BadInput("the output's name", got=target.name, expected="a name that ends with .onnx")
    refuse_input(target, source)
    with alone_with(target, progress):
        return _made(source, target, config, dialect, force, progress)


def _made(
    source: Path, target: Path, config: QuantizeConfig, dialect: Dialect, force: bool, progress: Progress
) -> QuantizeResult:
    """Calibrate, or write out what was trained, unless the same is there."""
    if _trained(source):
        if config.precision != "fp32":
            raise BadInput(
                f"--precision {config.precision} of a model trained for int8",
                fix=f"Quantize it, then deploykit export FILE.onnx --precision {config.precision}.",
            )
        from deploykit.quantization.qat.qat_emit import emit

        return emit(source, target, config, dialect, STAGE_VERSION, force=force, progress=progress)
    if config.weight_bits is not None:
        dialect = replace(dialect, weight_bits=config.weight_bits)
    if config.data is None and not config.synthetic:
        raise BadInput(
            "no calibration data",
            expected="--data",
            fix="Name data, or pass --synthetic, which the manifest then says.",
        )
    images = calibration_pictures(config, progress)
    data = Parent("data", images.sha256, name=images.name)
    manifest = manifest_of(source, target, config, dialect, STAGE_VERSION, [data])
    if already_made(target, manifest.key, force=force):
        made = read_manifest(target)
        assert made is not None
        return QuantizeResult(target, False, made.facts)
    with TemporaryDirectory(prefix="deploykit-") as scratch:
        return _quantize(source, target, config, dialect, manifest, images, Path(scratch), progress)


def default_name(source: Path, target: str) -> str:
    """What the int8 file of ``source`` for ``target`` is called: files for several targets can lie side by side."""
    return f"{source.stem}.int8.onnx" if target == "ort-cpu" else f"{source.stem}.int8.{target}.onnx"


def _trained(source: Path) -> bool:
    """Whether a model file holds ranges of a training for int8."""
    from deploykit.base.checkpoint import is_model_file, read_tensors

    if source.suffix.lower() in (".onnx", ".pt2"):
        return False
    content = read_tensors(source)
    return is_model_file(content) and content.get("ranges") is not None


def _quantize(
    source: Path,
    target: Path,
    config: QuantizeConfig,
    dialect: Dialect,
    manifest: Manifest,
    images: Calibration,
    scratch: Path,
    progress: Progress,
) -> QuantizeResult:
    import onnx

    from deploykit.quantization.search import Choice

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
        facts = judge(reference, candidate, images.chosen, x, opened, dialect, progress)
        if facts["measured"] and facts["speedup"] < 1 and dialect.timed:
            facts["slower"] = slower_layers(opened, proto, made, one_batch(reference, x), progress)
    facts["lint"] = linted(made, config.target, progress)
    facts = {
        "choice": choice.said(),
        "snr_db": {name: round(value, 2) for name, value in snr.items()},
        "max_drop": held,
        "recovery": recovery.facts | {"batch_norm": batch_norm},
        "cast": rest.facts,
        "images": len(images.observed),
        "calibrated_on": "synthetic" if config.data is None else images.name,
        **facts,
    }
    if not facts["parity"]["ok"]:
        raise AnswerNo(
            f"int8 of {source} is too far from float: {nearness(facts['parity'])}",
            expected="at least 10 dB and 0.95",
            fix="Keep layers float with --keep-float, or calibrate on more pictures.",
        )
    write_onnx(target, made)
    attach(target, shown)
    write_manifest(
        target,
        replace(
            manifest,
            files=files_of(target),
            preprocessing=preprocessing.to_dict(),
            classes=classes,
            facts=facts,
        ),
    )
    return QuantizeResult(target, True, facts)


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
    from deploykit.quantization.analyze import SCHEMA, swept
    from deploykit.reporting.attachments import sensitivity

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
) -> tuple[Choice, dict[str, Any] | None]:
    from deploykit.quantization.max_drop import Held

    if config.max_drop is None:
        return choice, None
    logits = logits_of(reference, x)
    return Held(config, images, classes, x, logits, opened, progress).choice(quantizer, choice)


def nearness(parity: dict[str, Any]) -> str:
    """SNR and agreement of a parity, rounded for people."""
    snr, agreement = parity["snr_db"], parity["top1_agreement"]
    shown = "undefined SNR" if snr is None else f"SNR {snr:.1f} dB"
    return shown if agreement is None else f"{shown}, top-1 agreement {agreement:.3f}"
