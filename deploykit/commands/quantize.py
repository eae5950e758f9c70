"""``deploykit quantize``: a float model → an int8 ONNX file in the dialect of its target, verified and audited."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from deploykit.base.artifact import (
    Manifest,
    Parent,
    already_made,
    artifact_sha256,
    files_of,
    portable_data_name,
    read_manifest,
    write_manifest,
)
from deploykit.base.config.quantize import QuantizeConfig
from deploykit.base.environment import cpu, library_versions
from deploykit.base.errors import AnswerNo, BadInput
from deploykit.base.progress import SILENT, Progress
from deploykit.commands.batch_norm import with_batch_norm
from deploykit.commands.calibration import Calibration, calibration_pictures
from deploykit.commands.graphs import Opened, logits_of
from deploykit.commands.observed import observed, observed_values
from deploykit.commands.recovery import Recovery, kept_batches
from deploykit.commands.slower import in_words, slower_layers

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from deploykit.base.preprocessing import Preprocessing
    from deploykit.base.runner import Runner
    from deploykit.quantization.dialects import Dialect
    from deploykit.quantization.observers import Observer
    from deploykit.quantization.search import Choice, Quantizer

STAGE_VERSION = 3
LIBRARIES = ("deploykit", "onnx", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "numpy")


@dataclass(frozen=True)
class QuantizeResult:
    """What a quantization made.

    Attributes:
        output: the int8 ONNX file.
        made: False where the identical file was there already.
        facts: choice, snr_db by method, audit, parity, calibrated_on, measured (whether the target runs here) and
            speedup (compute only, batch 1; None where not measured), lint (notes of ``quantize --lint``).
    """

    output: Path
    made: bool
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The object of ``--json``."""
        return {"output": str(self.output), "made": self.made, **self.facts}

    def summary(self) -> str:
        """For people."""
        if not self.made:
            return f"{self.output} is up to date: same model, data, options and versions; nothing done"
        audit, parity = self.facts["audit"], self.facts["parity"]
        speedup = self.facts["speedup"]
        if speedup is None:
            speed = "speed not measured here"
        else:
            blamed = f": {in_words(self.facts['slower'])}" if "slower" in self.facts else ""
            slower = "" if speedup >= 1 else f" (slower than float: keep the float engine on this machine{blamed})"
            speed = f"{speedup:.2f}x over float at batch 1{slower}"
        held = self.facts.get("max_drop")
        drop = f"; drop {held['drop_pt']:.2f} pt on select with {len(held['reverted'])} layers reverted" if held else ""
        quality = "identical" if parity["identical"] else f"SNR {parity['snr_db']:.1f} dB"
        return (
            f"{self.output}: {audit['int8_convs']} of {audit['convs']} convolutions on integers, "
            f"{speed}; ranges by {self.facts['choice']['method']} "
            f"from {self.facts['images']} pictures; against float: {quality}, top-1 agreement {parity['top1_agreement']:.4f}{drop}"
        )


def quantize(
    model: Path | str,
    output: Path | str | None = None,
    config: QuantizeConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> QuantizeResult:
    """Quantize ``model`` to int8 for one target.

    Args:
        model: an ``.onnx`` file, or a model file, which is exported first.
        output: default: beside the model, ``model.int8.onnx``.
        config: how.
        force: replace an output that is not ours.
        progress: where it shows.

    Raises:
        BadInput: no data, a target without int8, a model that is quantized already or cannot be read.
        AnswerNo: the int8 file does not agree with the float one within int8's budget; nothing is written.
    """
    from deploykit.base.checkpoint import check_file

    config = config or QuantizeConfig()
    dialect = dialect_of(config.target)
    if config.weight_bits is not None:
        dialect = replace(dialect, weight_bits=config.weight_bits)
    source = check_file(Path(model))
    target = Path(output) if output is not None else source.with_name(f"{source.stem}.int8.onnx")
    if target.suffix != ".onnx":
        raise BadInput("the output's name", got=target.name, expected="a name that ends with .onnx")
    if config.data is None and not config.synthetic:
        raise BadInput(
            "no calibration data",
            expected="--data",
            fix="Name data, or pass --synthetic, which the manifest then says.",
        )
    images = calibration_pictures(config, progress)
    manifest = Manifest(
        kind="onnx",
        files={},
        stage="quantize",
        version=STAGE_VERSION,
        config=_recorded(config),
        parents=(
            Parent("model", artifact_sha256(source), os.path.relpath(source, target.parent), source.stem),
            Parent("data", images.sha256, name=images.name),
        ),
        precision="int8",
        target=config.target,
        versions=library_versions(LIBRARIES),
        hardware={"cpu": cpu()} if dialect.timed and not config.force_int8 else {"weight_bits": dialect.weight_bits},
    )
    if already_made(target, manifest.key, force=force):
        made = read_manifest(target)
        assert made is not None
        return QuantizeResult(target, False, made.facts)
    with TemporaryDirectory(prefix="deploykit-") as scratch:
        return _quantize(source, target, config, dialect, manifest, images, Path(scratch), progress)


def dialect_of(target: str) -> Dialect:
    """The dialect of a target on this machine's CPU, or why it has none."""
    from deploykit.base.targets import check_target
    from deploykit.quantization.dialects import DIALECTS, dialect_for

    check_target(target)
    if target == "ort-cuda":
        raise BadInput(
            "int8 for ort-cuda",
            expected="a target with int8 kernels",
            fix="ONNX Runtime's CUDA provider runs Q/DQ in float and slower: use fp16 there, or --target tensorrt.",
        )
    if target not in DIALECTS:
        raise BadInput(f"{target} has no int8 dialect", expected="one of " + ", ".join(DIALECTS))
    return dialect_for(target, cpu()["isa"], platform.machine())


def _recorded(config: QuantizeConfig) -> dict[str, Any]:
    fields = config.plain()
    fields.pop("ranges")  # where statistics are kept does not change what is made of them
    if config.data is not None:
        fields["data"] = portable_data_name(config.data)
    return fields


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
    import onnx_ir as ir

    from deploykit.data import prepare as prepare_images
    from deploykit.quantization.prepare import prepare
    from deploykit.quantization.search import Choice, Quantizer, planned

    model_file, batch_norm = with_batch_norm(source, scratch, config, images, progress)
    path = float_onnx(model_file, scratch, config, progress)
    opened = Opened(scratch, threads=config.threads, size=config.size, integer_kernels=dialect.timed)
    with opened.runner(path) as reference:
        preprocessing, classes = reference.preprocessing, reference.classes
        if preprocessing is None:
            raise BadInput(f"{path} does not carry its preprocessing", fix="Name the input size with --size.")
        proto = onnx.load(str(path))
        model, _ = planned(proto, Choice(keep_float=frozenset(config.keep_float)), dialect)
        unknown = set(config.keep_float) - {node.name for node in model.graph}
        if unknown:
            raise BadInput(f"no node is called {sorted(unknown)[0]!r}", fix="`deploykit inspect --layers` lists them.")
        wide = prepare(proto)
        seen = observed(ir.to_proto(wide), observed_values(wide), images, preprocessing, config, opened, progress)
        quantizer = Quantizer(proto, seen, config.percentile, dialect)
        pictures = prepare_images(images.chosen, preprocessing)
        x = pictures[: config.select_images]
        logits = logits_of(reference, x)
        recovery = _recovery(config, images, preprocessing, x, logits, opened, progress)
        quantizer = recovery.equalized(quantizer, Choice(keep_float=frozenset(config.keep_float)))
        choice, snr = _choose(quantizer, config, x, logits, opened, progress)
        quantizer = recovery.adapted(quantizer, choice)
        choice, held = _hold_drop(quantizer, choice, config, images, classes, pictures, reference, opened, progress)
        made = quantizer.make(choice)
        _describe(made, proto)
        onnx.checker.check_model(made, full_check=True)
        candidate = scratch / target.name
        onnx.save(made, str(candidate))
        facts = _judge(reference, candidate, images, x, opened, dialect, progress)
        if facts["measured"] and facts["speedup"] < 1:
            facts["slower"] = slower_layers(opened, proto, made, x[:1], progress)
    facts["lint"] = _linted(made, config.target, progress)
    facts = {
        "choice": choice.said(),
        "snr_db": {name: round(value, 2) for name, value in snr.items()},
        "max_drop": held,
        "recovery": recovery.facts | {"batch_norm": batch_norm},
        "images": len(images.observed),
        "calibrated_on": "synthetic" if config.data is None else images.name,
        **facts,
    }
    if not facts["parity"]["ok"]:
        raise AnswerNo(
            f"int8 of {source} is too far from float: SNR {facts['parity']['snr_db']} dB, "
            f"top-1 agreement {facts['parity']['top1_agreement']}",
            expected="at least 10 dB and 0.95",
            fix="Keep layers float with --keep-float, or calibrate on more pictures.",
        )
    _write(target, made)
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


def _linted(made: onnx.ModelProto, target: str, progress: Progress) -> list[dict[str, Any]]:
    """What the target will not like in the file just made; a break is an answer of its own."""
    from deploykit.commands.lint import by_rule, findings_of

    found = findings_of(made, target)
    broken = by_rule([finding for finding in found if finding.breaks])
    if broken:
        raise AnswerNo(f"{target} would not run this file: {broken[0]}")
    for line in by_rule(found):
        progress.say(line)
    return [asdict(finding) for finding in found]


def float_onnx(source: Path, scratch: Path, config: QuantizeConfig, progress: Progress) -> Path:
    """The model as an ``.onnx`` file: itself, or exported into ``scratch``."""
    if source.suffix.lower() == ".onnx":
        return source
    from deploykit.base.config.export import ExportConfig
    from deploykit.commands.export import export

    options = ExportConfig(size=config.size, arch=config.arch, allow_code=config.allow_code, threads=config.threads)
    return export(source, scratch / f"{source.stem}.onnx", options, progress=progress).output


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
    from deploykit.commands.max_drop import Held

    if config.max_drop is None:
        return choice, None
    logits = logits_of(reference, x)
    return Held(config, images, classes, x, logits, opened, progress).choice(quantizer, choice)


def _recovery(
    config: QuantizeConfig,
    images: Calibration,
    preprocessing: Preprocessing,
    x: np.ndarray,
    logits: np.ndarray,
    opened: Opened,
    progress: Progress,
) -> Recovery:
    import onnx_ir as ir

    from deploykit.quantization.prepare import prepare
    from deploykit.quantization.search import snr_db

    again = config.model_copy(update={"ranges": None})  # a range file holds the network as it came

    def snr(proto: onnx.ModelProto) -> float:
        return snr_db(logits, opened.logits(proto, x))

    def observe(proto: onnx.ModelProto) -> Mapping[str, Observer]:
        wide = prepare(proto)
        return observed(ir.to_proto(wide), observed_values(wide), images, preprocessing, again, opened, progress)

    batches = kept_batches(lambda: images.batches(config.batch, preprocessing))
    return Recovery(config, snr, observe, batches, opened.graph, progress)


def _choose(
    quantizer: Quantizer, config: QuantizeConfig, x: np.ndarray, logits: np.ndarray, opened: Opened, progress: Progress
) -> tuple[Choice, dict[str, float]]:
    from deploykit.quantization.search import AUTO_METHODS, Choice, choose_float_parts, choose_prefix, choose_ranges

    base = Choice(keep_float=frozenset(config.keep_float))

    def run(proto: onnx.ModelProto) -> np.ndarray:
        return opened.logits(proto, x)

    def time_graphs(protos: Mapping[str, onnx.ModelProto]) -> dict[str, float]:
        return opened.times(protos, x[:1], config.seed)

    timed = quantizer.dialect.timed and not config.force_int8
    if timed:
        base = choose_prefix(quantizer, base, time_graphs, progress)
    methods = AUTO_METHODS if config.method == "auto" else (config.method,)
    base, snr = choose_ranges(quantizer, base, methods, logits, run, progress)
    if timed:
        base = choose_float_parts(quantizer, base, logits, run, time_graphs, progress)
    return base, snr


def _judge(
    reference: Runner,
    candidate: Path,
    images: Calibration,
    x: np.ndarray,
    opened: Opened,
    dialect: Dialect,
    progress: Progress,
) -> dict[str, Any]:
    """Parity against float on ``select``, the audit of what runs on integers, and the speed-up measured here.

    A dialect of another engine than this machine's ONNX Runtime is executed as it stands, in float: its answers are
    checked, its speed is not claimed, and the audit counts what the file offers the engine.
    """
    import onnx

    from deploykit.commands.parity import BATCHES, parity_of
    from deploykit.commands.timing import interleaved_s
    from deploykit.quantization.audit import offered_int8, share_of_int8

    with opened.runner(candidate) as runner:
        parity = parity_of(reference, runner, images.chosen, BATCHES, "int8", progress, name="float")
        if not dialect.timed:
            audit = offered_int8(onnx.load(str(candidate)))
            return {"parity": parity.to_dict(), "audit": audit, "measured": False, "speedup": None}
        times = interleaved_s({"float": reference, "int8": runner}, x[:1], rounds=30)
        audit = share_of_int8(opened.optimized(candidate))
    speedup = round(times["float"] / times["int8"], 3)
    return {"parity": parity.to_dict(), "audit": audit, "measured": True, "speedup": speedup}


def _describe(made: onnx.ModelProto, source: onnx.ModelProto) -> None:
    """Carry the metadata over, with the new precision."""
    del made.metadata_props[:]
    entries = {entry.key: entry.value for entry in source.metadata_props}
    entries["deploykit.precision"] = "int8"
    for key in sorted(entries):
        made.metadata_props.add(key=key, value=entries[key])


def _write(target: Path, made: onnx.ModelProto) -> None:
    from deploykit.base.atomic import write_bytes

    write_bytes(target, made.SerializeToString(deterministic=True))
