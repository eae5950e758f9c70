"""``deploykit quantize``: a float model → an int8 ONNX file in the dialect of its target, verified and audited."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from deploykit.base.artifact import (
    Manifest,
    Parent,
    already_made,
    artifact_sha256,
    files_of,
    read_manifest,
    write_manifest,
)
from deploykit.base.config.quantize import QuantizeConfig
from deploykit.base.environment import cpu, library_versions
from deploykit.base.errors import AnswerNo, BadInput
from deploykit.base.progress import SILENT, Progress
from deploykit.commands.calibration import Calibration, calibration_pictures, shown_name
from deploykit.commands.graphs import Opened

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from deploykit.base.runner import Runner
    from deploykit.quantization.search import Choice, Quantizer

STAGE_VERSION = 1
LIBRARIES = ("deploykit", "onnx", "onnx-ir", "onnxruntime", "onnxruntime-gpu", "numpy")
BUILT = ("ort-cpu",)


@dataclass(frozen=True)
class QuantizeResult:
    """What a quantization made.

    Attributes:
        output: the int8 ONNX file.
        made: False where the identical file was there already.
        facts: choice, snr_db by method, audit, parity, speedup (measured here, compute only, batch 1), calibrated_on.
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
        slower = "" if self.facts["speedup"] >= 1 else " (slower than float: keep the float engine on this machine)"
        quality = "identical" if parity["identical"] else f"SNR {parity['snr_db']:.1f} dB"
        return (
            f"{self.output}: {audit['int8_convs']} of {audit['convs']} convolutions on integers, "
            f"{self.facts['speedup']:.2f}x over float at batch 1{slower}; ranges by {self.facts['choice']['method']} "
            f"from {self.facts['images']} pictures; against float: {quality}, top-1 agreement {parity['top1_agreement']:.4f}"
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
    _check_target(config.target)
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
        hardware={} if config.force_int8 else {"cpu": cpu()},
    )
    if already_made(target, manifest.key, force=force):
        made = read_manifest(target)
        assert made is not None
        return QuantizeResult(target, False, made.facts)
    with TemporaryDirectory(prefix="deploykit-") as scratch:
        return _quantize(source, target, config, manifest, images, Path(scratch), progress)


def _check_target(target: str) -> None:
    from deploykit.base.targets import check_target

    check_target(target)
    if target == "ort-cuda":
        raise BadInput(
            "int8 for ort-cuda",
            expected="a target with int8 kernels",
            fix="ONNX Runtime's CUDA provider runs Q/DQ in float and slower: use fp16 there, or --target tensorrt.",
        )
    if target not in BUILT:
        raise BadInput(f"int8 for {target} is not built in this version", expected="one of " + ", ".join(BUILT))


def _recorded(config: QuantizeConfig) -> dict[str, Any]:
    fields = config.plain()
    if config.data is not None:
        fields["data"] = shown_name(config.data)
    return fields


def _quantize(
    source: Path,
    target: Path,
    config: QuantizeConfig,
    manifest: Manifest,
    images: Calibration,
    scratch: Path,
    progress: Progress,
) -> QuantizeResult:
    import onnx
    import onnx_ir as ir

    from deploykit.data import prepare as prepare_images
    from deploykit.quantization.calibrate import observe
    from deploykit.quantization.prepare import prepare
    from deploykit.quantization.search import Choice, Quantizer, planned

    path = _float_onnx(source, scratch, config, progress)
    opened = Opened(scratch, threads=config.threads, size=config.size)
    with opened.runner(path) as reference:
        preprocessing, classes = reference.preprocessing, reference.classes
        if preprocessing is None:
            raise BadInput(f"{path} does not carry its preprocessing", fix="Name the input size with --size.")
        proto = onnx.load(str(path))
        model, plan = planned(proto, Choice(keep_float=frozenset(config.keep_float)))
        unknown = set(config.keep_float) - {node.name for node in model.graph}
        if unknown:
            raise BadInput(f"no node is called {sorted(unknown)[0]!r}", fix="`deploykit inspect --layers` lists them.")
        wide = prepare(proto)
        values = _observed_values(wide, {value.name for value in plan.points})
        seen = observe(
            ir.to_proto(wide),
            values,
            images.batches(config.batch, preprocessing),
            opened.graph,
            total=len(images.observed),
            progress=progress,
        )
        quantizer = Quantizer(proto, seen, config.percentile)
        x = prepare_images(images.chosen, preprocessing)
        logits = _logits(reference, x)
        choice, snr = _choose(quantizer, config, x, logits, opened, progress)
        made = quantizer.make(choice)
        _describe(made, proto)
        onnx.checker.check_model(made, full_check=True)
        candidate = scratch / target.name
        onnx.save(made, str(candidate))
        facts = _judge(reference, candidate, images, x, opened, progress)
    facts = {
        "choice": choice.said(),
        "snr_db": {name: round(value, 2) for name, value in snr.items()},
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


def _float_onnx(source: Path, scratch: Path, config: QuantizeConfig, progress: Progress) -> Path:
    if source.suffix.lower() == ".onnx":
        return source
    from deploykit.base.config.export import ExportConfig
    from deploykit.commands.export import export

    options = ExportConfig(size=config.size, arch=config.arch, allow_code=config.allow_code, threads=config.threads)
    return export(source, scratch / f"{source.stem}.onnx", options, progress=progress).output


def _observed_values(model: Any, points: set[str | None]) -> list[Any]:
    """Activations that any choice may quantize: the plan's, and every input of a convolution or matrix product."""
    from deploykit.quantization.graphs import activation_inputs
    from deploykit.quantization.placement import ANCHORS

    found: dict[Any, None] = {}
    for node in model.graph:
        for value in (*(v for _, v in activation_inputs(node)), *node.outputs):
            if value.name in points or (node.op_type in (*ANCHORS, "Pad") and value in node.inputs):
                found[value] = None
    return list(found)


def _choose(
    quantizer: Quantizer, config: QuantizeConfig, x: np.ndarray, logits: np.ndarray, opened: Opened, progress: Progress
) -> tuple[Choice, dict[str, float]]:
    from deploykit.quantization.search import AUTO_METHODS, Choice, choose_float_parts, choose_prefix, choose_ranges

    base = Choice(keep_float=frozenset(config.keep_float))

    def run(proto: onnx.ModelProto) -> np.ndarray:
        with opened.proto(proto) as runner:
            return _logits(runner, x)

    def time_graphs(protos: Mapping[str, onnx.ModelProto]) -> dict[str, float]:
        from deploykit.commands.timing import interleaved_s

        with ExitStack() as stack:
            runners = {name: stack.enter_context(opened.proto(proto)) for name, proto in protos.items()}
            return interleaved_s(runners, x[:1], seed=config.seed)

    if not config.force_int8:
        base = choose_prefix(quantizer, base, time_graphs, progress)
    methods = AUTO_METHODS if config.method == "auto" else (config.method,)
    base, snr = choose_ranges(quantizer, base, methods, logits, run, progress)
    if not config.force_int8:
        base = choose_float_parts(quantizer, base, logits, run, time_graphs, progress)
    return base, snr


def _logits(runner: Runner, x: np.ndarray) -> np.ndarray:
    import numpy as np

    step = runner.inputs[0].fixed_batch or 8
    if len(x) % step and runner.inputs[0].fixed_batch:
        x = x[: max(step, len(x) // step * step)]
    return np.concatenate([runner(np.ascontiguousarray(x[i : i + step])) for i in range(0, len(x), step)])


def _judge(
    reference: Runner, candidate: Path, images: Calibration, x: np.ndarray, opened: Opened, progress: Progress
) -> dict[str, Any]:
    """Parity against float on ``select``, the audit of what really runs, and the speed-up measured here."""
    from deploykit.commands.parity import BATCHES, parity_of
    from deploykit.commands.timing import interleaved_s
    from deploykit.quantization.audit import share_of_int8

    with opened.runner(candidate) as runner:
        parity = parity_of(reference, runner, images.chosen, BATCHES, "int8", progress, name="float")
        times = interleaved_s({"float": reference, "int8": runner}, x[:1], rounds=30)
        audit = share_of_int8(opened.optimized(candidate))
    return {"parity": parity.to_dict(), "audit": audit, "speedup": round(times["float"] / times["int8"], 3)}


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
