"""What is told of a file: the state and content of its manifest, and facts as lines and tables for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deploykit.base.artifact import is_unmodified, read_manifest
from deploykit.base.errors import BadInput
from deploykit.reporting.format import NONE, aligned
from deploykit.reporting.read import validate
from deploykit.reporting.schema import Report

TOLD_ELSEWHERE = ("network", "settings", "notes", "beside")  # of engines


def manifest_facts(path: Path) -> dict[str, object]:
    """What the manifest of ``path`` says, and whether its files are as it says."""
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
        "created": manifest.measured.get("created"),
        "files": list(manifest.files),
        "parents": [
            {"role": parent.role, "name": parent.name or parent.path, "sha256": parent.sha256}
            for parent in manifest.parents
        ],
        "target": manifest.target,
        "precision": manifest.precision,
        "preprocessing": manifest.preprocessing,
        "task": manifest.task,
        "classes": list(manifest.classes) if manifest.classes is not None else None,
        "versions": manifest.versions,
        "facts": {key: value for key, value in manifest.facts.items() if key not in TOLD_ELSEWHERE},
        "measured": {key: value for key, value in manifest.measured.items() if key != "created"},
    }


def json_facts(path: Path) -> tuple[str, dict[str, object]]:
    """``manifest`` or ``report``, and what is in it.

    Raises:
        BadInput: damaged, or neither.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is no JSON: {error}") from error
    schema = str(content.get("schema", "")) if isinstance(content, dict) else ""
    if schema.startswith("deploykit.manifest/"):
        if (artifact := described_by(path)) is None:
            raise BadInput(f"{path} is a manifest under another name", expected="FILE.manifest.json")
        manifest = read_manifest(artifact)
        assert manifest is not None
        return "manifest", {"format": schema, "manifest": manifest_facts(artifact)}
    if schema.startswith("deploykit.report/"):
        return "report", {"format": schema, **_report(validate(content, str(path)))}
    raise BadInput(f"{path} is neither a manifest nor a report", got=f"schema {schema or '(none)'}")


def described_by(path: Path) -> Path | None:
    """The artifact that a manifest speaks of; None of other files."""
    name = path.name.removesuffix(".manifest.json")
    return path.with_name(name) if name != path.name and name else None


def _report(report: Report) -> dict[str, object]:
    variants = [
        {
            **{key: getattr(variant, key) for key in ("name", "target", "precision", "status")},
            "speedup": variant.speedup.estimate if variant.speedup else None,
            "quality": variant.quality.value if variant.quality else None,
            "drop_pt": variant.quality.drop_pt if variant.quality else None,
        }
        for variant in report.variants
    ]
    fields = report.plain()
    keep = ("created", "task", "recipe", "baseline", "stop_reason", "pick", "data")
    return {**{key: fields[key] for key in keep}, "variants": variants}


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
    cells = [[_short(row.get(key)) if row.get(key) is not None else NONE for key in keys] for row in rows]
    numbers = {
        place for place, key in enumerate(keys) if all(isinstance(row.get(key), int | float | None) for row in rows)
    }
    return aligned([keys, *cells], right=numbers)


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
