"""``deploykit build``: an ONNX file → what its target runs: a TensorRT plan, or a file with its provider's options."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploykit.base.artifact import (
    Made,
    Manifest,
    Parent,
    already_made,
    artifact_sha256,
    portable_data_name,
    read_manifest,
    refuse_input,
    write_manifest,
)
from deploykit.base.environment import library_versions
from deploykit.base.errors import BadInput
from deploykit.base.lock import alone_with
from deploykit.base.progress import SILENT, Progress
from deploykit.base.targets import PLANS, check_target
from deploykit.config.build import BuildConfig
from deploykit.config.keywords import by_keywords

STAGE_VERSION = 1
LIBRARIES = {
    "tensorrt": ("deploykit", "onnx", "tensorrt"),
    "tensorrt-rtx": ("deploykit", "onnx", "tensorrt_rtx"),
    "ort-cpu": ("deploykit", "onnx", "onnxruntime", "onnxruntime-gpu"),
    "ort-cuda": ("deploykit", "onnx", "onnxruntime", "onnxruntime-gpu"),
    "ort-trt": ("deploykit", "onnx", "onnxruntime", "onnxruntime-gpu", "tensorrt"),
    "openvino": ("deploykit", "onnx", "openvino"),
}


@dataclass(frozen=True)
class BuildResult(Made):
    """What a build made.

    Attributes:
        output: the engine.
        made: False where the identical engine was there already.
        facts: precision, bytes, network (what the builder was given), settings, beside, notes …
    """

    def summary(self) -> str:
        """For people."""
        if not self.made:
            return f"{self.output} is up to date: same model, options, versions and GPU; nothing done"
        facts = self.facts
        lines = [f"{self.output}: {facts['target']}, {_precision(facts)}, {facts['bytes'] / 1e6:.1f} MB"]
        if "network" in facts:
            network = facts["network"]
            lines[0] += f", built in {facts['build_s']:.1f} s"
            shares = ", ".join(f"{count} in {name}" for name, count in network["precisions"].items())
            lines.append(
                f"  layers that multiply: {shares or 'none'}; Q/DQ: {network['quantize']}/{network['dequantize']}"
            )
        lines += [f"  {note}" for note in facts["notes"]]
        return "\n".join(lines)


def _precision(facts: dict[str, Any]) -> str:
    own, rest = facts["precision"], facts["float_precision"]
    return own if own == rest else f"{own} with {rest}"


@by_keywords(BuildConfig)
def build(
    model: Path | str,
    output: Path | str | None = None,
    config: BuildConfig | None = None,
    *,
    force: bool = False,
    progress: Progress = SILENT,
) -> BuildResult:
    """Build what ``config.target`` runs.

    Args:
        model: an ``.onnx`` file; int8 comes from its Q/DQ.
        output: default: beside the model, ``model.engine`` for TensorRT, ``model.TARGET.onnx`` for ONNX Runtime.
        config: how.
        force: replace an output that is not ours.
        progress: where it shows.

    Raises:
        BadInput: the file cannot be read or parsed, an option does not fit the target, a profile the network.
        Unavailable: this machine lacks the library or the GPU that the target is built with.
        AnswerNo: the builder failed, or the precision asked for is not in the network.
    """
    from deploykit.base.checkpoint import check_file

    config = config or BuildConfig()
    check_target(config.target)
    if config.target not in LIBRARIES:
        raise BadInput(f"{config.target} runs model files as they are", expected="one of " + ", ".join(LIBRARIES))
    source = check_file(Path(model))
    if source.suffix.lower() != ".onnx":
        raise BadInput(
            f"{source} is no ONNX file",
            got=source.suffix or "no suffix",
            fix=f"Export it first: deploykit export {source}.",
        )
    target = Path(output) if output is not None else default_output(source, config.target)
    suffix = ".engine" if config.target in PLANS else ".onnx"
    if target.suffix != suffix:
        raise BadInput("the output's name", got=target.name, expected=f"a name that ends with {suffix}")
    refuse_input(target, source)
    with alone_with(target, progress):
        return _build(source, target, config, force, progress)


def default_output(source: Path, target: str) -> Path:
    """Where the engine of ``source`` goes unless told otherwise."""
    name = f"{source.stem}.engine" if target in PLANS else f"{source.stem}.{target}.onnx"
    return source.with_name(name)


def _build(source: Path, target: Path, config: BuildConfig, force: bool, progress: Progress) -> BuildResult:
    from deploykit.building.fp16_beside import build_beside, wants_beside
    from deploykit.building.ort_file import build_file, ort_hardware
    from deploykit.building.tensorrt_plan import build_engine, plan_hardware

    is_plan = config.target in PLANS
    fields = config.plain()
    if config.data is not None:
        fields["data"] = portable_data_name(config.data)
    manifest = Manifest(
        kind="engine" if is_plan else "onnx",
        files={},
        stage="build",
        version=STAGE_VERSION,
        config=fields,
        parents=(
            Parent("model", artifact_sha256(source), os.path.relpath(source, target.parent), source.stem),
            *data_parent(config, progress),
        ),
        target=config.target,
        versions=library_versions(LIBRARIES[config.target]),
        hardware=plan_hardware(config) if is_plan else ort_hardware(config),
    )
    if already_made(target, manifest.key, force=force):
        made = read_manifest(target)
        assert made is not None
        return BuildResult(target, False, made.facts)
    if is_plan:
        facts, described = build_engine(source, target, config, manifest, force, progress)
        if wants_beside(config, facts["precision"]):
            facts["beside"] = found = build_beside(source, target, config, manifest, force, progress)
            facts["notes"].append(f"beside it {found['file']} in fp16 ({found['bytes'] / 1e6:.1f} MB): {found['why']}")
        write_manifest(target, described)
    else:
        facts, described = build_file(source, target, config, manifest, force, progress)
    return BuildResult(target, True, replace_layers(facts, described))


def data_parent(config: BuildConfig, progress: Progress) -> tuple[Parent, ...]:
    """The pictures that a cast measures, as a parent; nothing where none are looked at."""
    if config.data is None or config.precision not in ("fp16", "bf16"):
        return ()
    from deploykit.building.engine_graph import pictures_of

    split = pictures_of(config, progress)
    return (Parent("data", split.sha256, name=portable_data_name(config.data)),)


def replace_layers(facts: dict[str, Any], described: Manifest) -> dict[str, Any]:
    """The facts as they are told: where the layers of the network stand in the manifest, only their number."""
    if "network" not in facts:
        return facts
    network = {key: value for key, value in facts["network"].items() if key != "layers"}
    return {**facts, "network": {**network, "layers": len(described.facts["network"]["layers"])}}
