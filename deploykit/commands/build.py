"""``deploykit build``: an ONNX file → what its target runs: a TensorRT plan, or a file with its provider's options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploykit.base.artifact import Made, Manifest, Parent, portable_data_name
from deploykit.base.checkpoint import check_file
from deploykit.base.errors import BadInput
from deploykit.base.progress import SILENT, Progress
from deploykit.base.targets import target_of
from deploykit.building.builder import builder_of
from deploykit.building.engine_graph import split_seen
from deploykit.commands.stage import Opener, Planned, Stage, file_parent, make_artifact, opener, output_path, recorded
from deploykit.config.build import BuildConfig
from deploykit.config.keywords import by_keywords


def stage_of(target: str) -> Stage:
    """The stage, with the libraries of the target."""
    return Stage("build", 1, ("deploykit", "onnx", *target_of(target).libraries))


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
            lines[0] += f", built in {self.measured['build_s']:.1f} s"
            shares = ", ".join(f"{count} in {name}" for name, count in network["precisions"].items())
            lines.append(
                f"  layers that multiply: {shares or 'none'}; Q/DQ: {network['quantize']}/{network['dequantize']}"
            )
        lines += [f"  {note}" for note in facts["notes"]]
        return "\n".join(lines)


def _precision(facts: Mapping[str, Any]) -> str:
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
    config = config or BuildConfig()
    builder = builder_of(config.target)
    source = check_file(Path(model))
    if source.suffix.lower() != ".onnx":
        raise BadInput(
            f"{source} is no ONNX file",
            got=source.suffix or "no suffix",
            fix=f"Export it first: deploykit export {source}.",
        )
    target = output_path(output, default_output(source, config.target), target_of(config.target).built, source)
    data = opener(config.data, allow_code=config.allow_code, skip_broken=config.skip_broken, progress=progress)

    def plan() -> Planned:
        manifest = planned(source, target, config, data)
        return Planned(manifest, lambda: builder.build_file(source, target, config, manifest, force, progress))

    manifest, made = make_artifact(target, plan, force=force, progress=progress)
    return BuildResult(target, made, told(manifest.facts) if made else manifest.facts, manifest.measured)


def default_output(source: Path, target: str) -> Path:
    """Where the engine of ``source`` goes unless told otherwise."""
    row = target_of(target)
    return source.with_name(f"{source.stem}{row.built}" if row.needs_build else f"{source.stem}.{target}{row.built}")


def planned(source: Path, target: Path, config: BuildConfig, data: Opener) -> Manifest:
    """The manifest of the engine of ``source`` before it is made.

    Raises:
        Unavailable: this machine lacks the library that a plan is built with.
    """
    parents = [file_parent(source, target)]
    if config.data is not None and config.precision in ("fp16", "bf16"):  # a cast measures its pictures
        parents.append(Parent("data", split_seen(data()).sha256, name=portable_data_name(config.data)))
    return stage_of(config.target).manifest(
        "engine" if target_of(config.target).needs_build else "onnx",
        recorded(config),
        parents,
        target=config.target,
        hardware=builder_of(config.target).hardware(config),
    )


def told(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """The facts as they are told: where the layers of the network stand in the manifest, only their number."""
    if "network" not in facts:
        return facts
    return {**facts, "network": {**facts["network"], "layers": len(facts["network"]["layers"])}}
