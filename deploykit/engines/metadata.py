"""What an artifact says about itself, by precedence: flag, then manifest, then the file's own metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deploykit.base.artifact import Manifest, read_manifest
from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.stated import Stated, assumption
from deploykit.base.targets import PRECISIONS
from deploykit.base.task import Task, read_task, task_of_outputs
from deploykit.engines.onnx_graph import Declared, declared_by


@dataclass(frozen=True)
class Knowledge:
    """Preprocessing, class names, task and precision of an artifact, with what had to be assumed."""

    preprocessing: Preprocessing | None
    classes: tuple[str, ...] | None
    task: Task
    precision: str
    notes: tuple[str, ...] = ()


def of_file(path: Path, declared: Declared, stated: Stated) -> Knowledge:
    """Put together what is known of ``path``; ``stated`` by flags comes first.

    Raises:
        BadInput: manifest or metadata cannot be read; what was stated does not fit the file.
    """
    manifest, metadata = read_manifest(path), declared.metadata
    fields: Any = manifest.preprocessing if manifest else None
    if fields is None:
        fields = _metadata(path, metadata, "deploykit.preprocessing", dict)
    classes: Any = manifest.classes if manifest else None
    if classes is None:
        classes = _metadata(path, metadata, "deploykit.classes", list)
    precision = (manifest.precision if manifest else None) or metadata.get("deploykit.precision") or "fp32"
    if precision not in PRECISIONS:
        raise BadInput(f"{path} states an unknown precision", got=precision, expected="/".join(PRECISIONS))
    if fields is not None:
        preprocessing: Preprocessing | None = stated.over(Preprocessing.from_dict(fields))
    else:
        declared = _looked_at(path, declared)
        one = len(declared.inputs) == 1
        preprocessing = stated.of_input(declared.inputs[0], declared.normalizes) if one else None
    task = stated.task or _task(path, manifest, declared)
    last = declared.outputs[0].shape[-1] if declared.outputs and declared.outputs[0].shape else None
    names = stated.names(last if isinstance(last, int) and task == "classify" else None, str(path))
    if names is None and classes is not None:
        names = tuple(str(name) for name in classes)
    said = assumption(preprocessing, path.name)
    return Knowledge(preprocessing, names, task, precision, () if said is None else (said,))


def _looked_at(path: Path, declared: Declared) -> Declared:
    """What an engine declares of a foreign file, with what the graph tells beyond that."""
    if path.suffix.lower() != ".onnx":
        return declared
    graph = declared_by(path)
    return replace(declared, outputs=graph.outputs, normalizes=graph.normalizes)


def _task(path: Path, manifest: Manifest | None, declared: Declared) -> Task:
    stated = (manifest.task if manifest else None) or declared.metadata.get("deploykit.task")
    if stated is not None or manifest is not None or "deploykit.version" in declared.metadata:
        return read_task(stated, str(path))
    return task_of_outputs(declared.outputs)


def _metadata(path: Path, metadata: Mapping[str, str], key: str, kind: type) -> Any:
    text = metadata.get(key)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if value is None and text.strip() == "null":
        return None
    if not isinstance(value, kind):
        raise BadInput(f"{path}: its metadata {key} cannot be read", expected=f"a JSON {kind.__name__}")
    return value
