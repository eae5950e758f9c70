"""``inspect``: what a file is and what is in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploykit.base.artifact import is_unmodified, read_manifest
from deploykit.base.checkpoint import check_file
from deploykit.base.errors import BadInput, from_os_error
from deploykit.base.hashing import file_sha256
from deploykit.commands.inspect_engine import SUFFIXES as ENGINES
from deploykit.commands.inspect_engine import describe_engine

TOLD_ELSEWHERE = ("network", "settings", "notes", "beside")  # of engines
TORCH = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".pt2")


@dataclass(frozen=True)
class InspectResult:
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


def inspect(
    path: Path,
    *,
    layers: bool = False,
    times: bool = False,
    target: str | None = None,
    threads: int | None = None,
    arch: str | None = None,
    size: int | None = None,
    allow_code: bool = False,
) -> InspectResult:
    """Tell what ``path`` is: a ``.pt``, ``.safetensors``, ``.pt2``, ``.onnx``, a manifest, a report or an engine.

    Args:
        path: of the file.
        layers: list every layer in the result.
        times: open the engine and list the layers that it runs with the time of each, measured here and now.
        target: that runs an ``.onnx`` for ``times``; None: its manifest's, or ort-cpu.
        threads: of the CPU, for ``times``; None: one.
        arch: what the tensors are, where recognition cannot tell.
        size: input size in pixels for counting MACs and for ``times``, where the file does not carry it.
        allow_code: ``module:…`` networks may run.

    Raises:
        BadInput: missing, empty, damaged, or of no kind we know; it runs nowhere where its layers could be timed.
        Unavailable: this machine lacks what would time its layers.
    """
    if not times and (target is not None or threads is not None):
        raise BadInput("--target and --threads say where the layers are timed", fix="Pass --times too.")
    path = check_file(Path(path))
    kind, facts, found = _look(path, arch, size, allow_code, times)
    if times and kind != "engine":  # where a plan does not open here, its manifest still tells much
        from deploykit.benchmarking.inspect_times import timed

        measured, found = timed(path, target, 1 if threads is None else threads, size, allow_code)
        facts |= measured
    try:
        common = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    except OSError as error:
        raise from_os_error(error, f"cannot read {path}") from error
    return InspectResult(path.name, kind, {**facts, **common, **_manifest(path)}, found, layers or times)


Found = tuple[str, dict[str, Any], list[dict[str, Any]]]


def _look(path: Path, arch: str | None, size: int | None, allow_code: bool, times: bool) -> Found:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _json(path)
    if suffix == ".onnx":
        from deploykit.exporting.describe import describe_onnx

        facts, layers = describe_onnx(path)
        return "onnx", facts, layers
    if suffix in TORCH:
        from deploykit.models.describe import describe_file

        return describe_file(path, arch, size, allow_code)
    if suffix in ENGINES:
        return describe_engine(path, times=times, size=size, allow_code=allow_code)
    if read_manifest(path) is not None:
        return "artifact", {}, []
    raise BadInput(
        f"cannot tell what {path} is",
        got=f"suffix {suffix or '(none)'}",
        expected=", ".join((*TORCH, ".onnx", *ENGINES, ".json")),
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
