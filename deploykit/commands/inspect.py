"""``inspect``: what a file is and what is in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploykit.base.artifact import read_manifest
from deploykit.base.atomic import JsonObject
from deploykit.base.checkpoint import check_file
from deploykit.base.command_result import Result
from deploykit.base.errors import BadInput, from_os_error
from deploykit.base.hashing import file_sha256
from deploykit.base.progress import SILENT, Progress
from deploykit.base.targets import TENSORRT, target_of
from deploykit.config.inspect import InspectConfig
from deploykit.config.keywords import by_keywords
from deploykit.reporting.file_facts import described_by, json_facts, manifest_facts, shown, table

SUFFIXES = target_of(TENSORRT).suffixes
TORCH = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".pt2")


Found = tuple[str, Mapping[str, object], Sequence[Mapping[str, object]]]
"""Kind, facts and layers of a file."""


@dataclass(frozen=True)
class InspectResult(Result):
    """What was found.

    Attributes:
        file: its name.
        kind: ``model``, ``tensors`` (a state dict of no known network), ``program``, ``onnx``, ``engine``, ``manifest``,
            ``report`` or ``artifact`` (known by its manifest only).
        facts: what is in it, JSON-able.
        layers: one dictionary per layer (name, type, precision, params, macs, shape), in the order they run.
    """

    file: str
    kind: str
    facts: Mapping[str, object]
    layers: Sequence[Mapping[str, Any]] = ()
    show_layers: bool = False

    def to_dict(self) -> JsonObject:
        """For ``--json``; the layers only where they were asked for."""
        found = {"file": self.file, "kind": self.kind, **self.facts}
        return {**found, "layers": self.layers} if self.show_layers else found

    def summary(self) -> str:
        """The facts as lines, then the table of layers where it was asked for."""
        facts = {"file": self.file, "kind": self.kind, **self.facts}
        width = max(len(key) for key in facts)
        lines = [
            f"{key.replace('_', ' '):<{width}}  {line}"
            for key, value in facts.items()
            for line in shown(value)
            if value not in (None, [], {})
        ]
        if self.show_layers and self.layers:
            lines += ["", *table(self.layers)]
        return "\n".join(lines)


@by_keywords(InspectConfig, modules=("file",))
def inspect(file: Path | str, config: InspectConfig | None = None, *, progress: Progress = SILENT) -> InspectResult:
    """Tell what ``file`` is: a ``.pt``, ``.safetensors``, ``.pt2``, ``.onnx``, a manifest, a report or an engine.

    Args:
        file: its path.
        config: what is told; the layers' times are measured here and now.
        progress: where it shows that they are.

    Raises:
        BadInput: missing, empty, damaged, or of no kind we know; it runs nowhere where its layers could be timed.
        Unavailable: this machine lacks what would time its layers.
    """
    config = config or InspectConfig()
    times, stated = config.times, config.stated
    if not times and (config.target is not None or config.threads is not None):
        raise BadInput("--target and --threads say where the layers are timed", fix="Pass --times too.")
    path = check_file(Path(file))
    kind, facts, found = _look(path, config)
    if times and kind != "engine":  # where a plan does not open here, its manifest still tells much
        threads = 1 if config.threads is None else config.threads
        from deploykit.benchmarking.layer_profiles import timed

        with progress.task("time the layers"):
            measured, found = timed(path, config.target, threads, stated, config.allow_code, config.shapes)
        facts = {**facts, **measured}
    try:
        common = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    except OSError as error:
        raise from_os_error(error, f"cannot read {path}") from error
    own = {} if described_by(path) is not None else {"manifest": manifest_facts(path)}
    return InspectResult(path.name, kind, {**facts, **common, **own}, found, config.layers or times)


def _look(path: Path, config: InspectConfig) -> Found:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return *json_facts(path), []
    if suffix == ".onnx":
        from deploykit.exporting.describe_onnx import describe_onnx

        facts, layers = describe_onnx(path, config.shapes)
        return "onnx", facts, layers
    if suffix in TORCH:
        from deploykit.models.describe_model import describe_file

        return describe_file(path, config.arch, config.stated, config.allow_code)
    if suffix in SUFFIXES:
        from deploykit.benchmarking.layer_profiles import timed
        from deploykit.building.describe_plan import Described, describe_plan

        def measured(path: Path, target: str) -> Described:
            return timed(path, target, None, config.stated, config.allow_code)

        told = describe_plan(
            path, timed=measured if config.times else None, stated=config.stated, allow_code=config.allow_code
        )
        return "engine", *told
    if read_manifest(path) is not None:
        return "artifact", {}, []
    raise BadInput(
        f"cannot tell what {path} is",
        got=f"suffix {suffix or '(none)'}",
        expected=", ".join((*TORCH, ".onnx", *SUFFIXES, ".json")),
    )
