"""``inspect``: what a file is and what is in it.

What ``deploykit inspect`` tells of a TensorRT plan: its header, the network it was built from, and the engine itself.

Only a machine with a GPU can open a plan. Elsewhere its manifest tells what the builder was given, and what is missing is
said.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploykit.base.artifact import Manifest, is_unmodified, read_manifest
from deploykit.base.checkpoint import check_file
from deploykit.base.command_result import Result
from deploykit.base.errors import BadInput, DeploykitError, from_os_error
from deploykit.base.hashing import file_sha256
from deploykit.base.progress import SILENT, Progress
from deploykit.base.runner import Layered
from deploykit.base.spec import Spec
from deploykit.base.targets import TENSORRT, target_of
from deploykit.benchmarking.layer_profiles import timed
from deploykit.config.inspect import InspectConfig
from deploykit.config.keywords import by_keywords
from deploykit.quantization.lint.explain_audit import LEFT, audit_and_left, grouped

SUFFIXES = target_of(TENSORRT).suffixes


def describe_engine(
    path: Path, *, times: bool = False, size: int | None = None, allow_code: bool = False
) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
    """Kind, facts and layers of a plan.

    Args:
        path: of it.
        times: measure the time of each layer, where the plan opens here.
        size: input size in pixels where nothing else tells it.
        allow_code: a runtime inside a version-compatible plan may run.

    Raises:
        BadInput: no plan, or truncated.
    """
    from deploykit.engines.tensorrt.plan_file import read_header

    header, manifest = read_header(path), read_manifest(path)
    facts: dict[str, Any] = {
        "format": f"{header.target} plan",
        "built_with": header.version,
        "compute_capabilities": list(header.capabilities),
    }
    network, layers = _network(manifest)
    facts |= network
    facts["parent"] = _parent(path, manifest)
    found, audited = _opened(path, header.target, times, size, allow_code)
    return "engine", {**facts, **found}, audited or layers


def _network(manifest: Manifest | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the manifest keeps of the network definition, without its layers, and these."""
    if manifest is None or "network" not in manifest.facts:
        return {"network": "not known: the plan has no manifest of deploykit"}, []
    facts = manifest.facts
    network = {key: value for key, value in facts["network"].items() if key not in ("layers", "io", LEFT)}
    told = {
        "precision": facts["precision"],
        "float_precision": facts["float_precision"],
        "network_as_given_to_the_builder": network,
        "qdq_expected_to_fuse_with_nothing": grouped(facts["network"].get(LEFT, []), {}),
        "tensors": facts["network"]["io"],
        "profiles": [
            {"input": name, **shapes} for profile in facts["settings"]["profiles"] for name, shapes in profile.items()
        ],
        "settings": {key: value for key, value in facts["settings"].items() if key != "profiles"},
        "built_on": (manifest.hardware.get("gpu") or {}).get("name") or "a machine without GPU",
        "beside": facts.get("beside"),
        "notes": facts["notes"],
    }
    return told, facts["network"]["layers"]


def _parent(path: Path, manifest: Manifest | None) -> str | None:
    """Whether the ONNX file that the plan came from is still that file."""
    from deploykit.base.hashing import file_sha256

    parent = next((one for one in manifest.parents if one.role == "model"), None) if manifest is not None else None
    if parent is None or parent.path is None:
        return None
    place = path.parent / parent.path
    if not place.is_file():
        return f"{parent.path} is not there any more"
    same = file_sha256(place) == parent.sha256
    return f"{parent.path}, unchanged" if same else f"{parent.path} has changed since: the engine is stale, rebuild it"


def _opened(
    path: Path, target: str, times: bool, size: int | None, allow_code: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The engine's own inspector, where this machine opens the plan; else what is missing and why."""
    from deploykit.engines import open_runner

    try:
        if times:
            return timed(path, target, None, size, allow_code)
        with open_runner(Spec(path.stem, path, target), size=size, allow_code=allow_code) as runner:
            found, left = audit_and_left(runner)
            layers = [dict(row) for row in runner.layers()] if isinstance(runner, Layered) else []
    except DeploykitError as error:
        missing = "tactics, formats, fusion, reformats" + (", and the time of each layer" if times else "")
        return {"not_told": f"{missing}, because the plan does not open here: {error.what}"}, []
    return {"engine": found, LEFT: left}, layers


TOLD_ELSEWHERE = ("network", "settings", "notes", "beside")  # of engines
TORCH = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".pt2")


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
    facts: dict[str, Any]
    layers: list[dict[str, Any]] = field(default_factory=list)
    show_layers: bool = False

    def to_dict(self) -> dict[str, Any]:
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


@by_keywords(InspectConfig)
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
    size, times = config.size, config.times
    if not times and (config.target is not None or config.threads is not None):
        raise BadInput("--target and --threads say where the layers are timed", fix="Pass --times too.")
    path = check_file(Path(file))
    kind, facts, found = _look(path, config.arch, size, config.allow_code, times)
    if times and kind != "engine":  # where a plan does not open here, its manifest still tells much
        from deploykit.benchmarking.layer_profiles import timed

        threads = 1 if config.threads is None else config.threads
        with progress.task("time the layers"):
            measured, found = timed(path, config.target, threads, size, config.allow_code)
        facts |= measured
    try:
        common = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    except OSError as error:
        raise from_os_error(error, f"cannot read {path}") from error
    return InspectResult(path.name, kind, {**facts, **common, **_manifest(path)}, found, config.layers or times)


Found = tuple[str, dict[str, Any], list[dict[str, Any]]]


def _look(path: Path, arch: str | None, size: int | None, allow_code: bool, times: bool) -> Found:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _json(path)
    if suffix == ".onnx":
        from deploykit.exporting.describe_onnx import describe_onnx

        facts, layers = describe_onnx(path)
        return "onnx", facts, layers
    if suffix in TORCH:
        from deploykit.models.describe_model import describe_file

        return describe_file(path, arch, size, allow_code)
    if suffix in SUFFIXES:
        return describe_engine(path, times=times, size=size, allow_code=allow_code)
    if read_manifest(path) is not None:
        return "artifact", {}, []
    raise BadInput(
        f"cannot tell what {path} is",
        got=f"suffix {suffix or '(none)'}",
        expected=", ".join((*TORCH, ".onnx", *SUFFIXES, ".json")),
    )


def _json(path: Path) -> Found:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is no JSON: {error}") from error
    schema = str(content.get("schema", "")) if isinstance(content, dict) else ""
    if schema.startswith("deploykit.manifest/"):
        if (artifact := _described_by(path)) is None:
            raise BadInput(f"{path} is a manifest under another name", expected="FILE.manifest.json")
        manifest = read_manifest(artifact)
        assert manifest is not None
        return "manifest", {"format": schema, "manifest": _manifest_facts(artifact)}, []
    if schema.startswith("deploykit.report/"):
        from deploykit.reporting.read import validate

        return "report", {"format": schema, **_report(validate(content, str(path)))}, []
    raise BadInput(f"{path} is neither a manifest nor a report", got=f"schema {schema or '(none)'}")


def _described_by(path: Path) -> Path | None:
    name = path.name.removesuffix(".manifest.json")
    return path.with_name(name) if name != path.name and name else None


def _report(content: Mapping[str, Any]) -> dict[str, Any]:
    variants = []
    for variant in content["variants"]:
        accuracy, speedup = variant.get("accuracy") or {}, variant.get("speedup") or {}
        variants.append(
            {
                **{key: variant[key] for key in ("name", "target", "precision", "status")},
                "speedup": speedup.get("estimate"),
                "top1": accuracy.get("top1"),
                "drop_pt": accuracy.get("drop_pt"),
            }
        )
    keep = ("created", "recipe", "baseline", "stop_reason", "pick", "data")
    return {**{key: content[key] for key in keep}, "variants": variants}


def _manifest(path: Path) -> dict[str, Any]:
    if _described_by(path) is not None:
        return {}
    return {"manifest": _manifest_facts(path)}


def _manifest_facts(path: Path) -> dict[str, Any]:
    manifest = read_manifest(path)
    if manifest is None:
        return {"state": "none"}
    missing = [name for name in manifest.files if not (path.parent / name).is_file()]
    state = (
        f"missing {', '.join(missing)}" if missing else "unmodified" if is_unmodified(path, manifest) else "modified"
    )
    return {
        "state": state,
        "kind": manifest.kind,
        "stage": manifest.stage,
        "created": manifest.created,
        "files": list(manifest.files),
        "parents": [
            {"role": parent.role, "name": parent.name or parent.path, "sha256": parent.sha256}
            for parent in manifest.parents
        ],
        "target": manifest.target,
        "precision": manifest.precision,
        "preprocessing": manifest.preprocessing,
        "classes": list(manifest.classes) if manifest.classes is not None else None,
        "versions": manifest.versions,
        "facts": {key: value for key, value in manifest.facts.items() if key not in TOLD_ELSEWHERE},
    }


def shown(value: Any) -> list[str]:
    """A fact as lines for people: lists of dictionaries as a table, dictionaries as ``key value`` pairs."""
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        return table(value)
    if isinstance(value, dict):
        return [", ".join(f"{key} {_short(inside)}" for key, inside in value.items() if inside not in (None, {}, []))]
    return [_short(value)]


def table(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Aligned columns, numbers to the right; one head line."""
    rows = list(rows)
    keys = list(rows[0])
    cells = [[_short(row.get(key)) if row.get(key) is not None else "–" for key in keys] for row in rows]
    widths = [max(len(key), *(len(row[place]) for row in cells)) for place, key in enumerate(keys)]
    number = [all(isinstance(row.get(key), int | float | None) for row in rows) for key in keys]

    def line(row: list[str]) -> str:
        return "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, number, strict=True)
        ).rstrip()

    return [line(keys), *(line(row) for row in cells)]


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        if value and all(isinstance(one, int | str) for one in value) and any(isinstance(one, int) for one in value):
            return "[" + ", ".join(str(one) for one in value) + "]"
        text = ", ".join(_short(one) for one in value[:10])
        return text + (f", … ({len(value)} in all)" if len(value) > 10 else "")
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_short(inside)}" for key, inside in value.items()) + ")"
    return str(value)
