"""What an artifact says about itself, by precedence: flag, then manifest, then the file's own metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deploykit.base.artifact import Manifest, read_manifest
from deploykit.base.errors import BadInput
from deploykit.base.overrides import Stated, assumption
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.targets import PRECISIONS
from deploykit.base.task import Task, read_task, task_of_outputs
from deploykit.engines.onnx_graph import Declared, declared_by
from deploykit.engines.onnx_outline import Outline, outline_of


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
    manifest, metadata, stale = read_manifest(path), declared.metadata, list[str]()
    fields: Any = manifest.preprocessing if manifest else None
    if fields is None:
        fields = _metadata(path, metadata, "deploykit.preprocessing", dict)
    classes: Any = manifest.classes if manifest else None
    if classes is None:
        classes = _metadata(path, metadata, "deploykit.classes", list)
    precision = (manifest.precision if manifest else None) or metadata.get("deploykit.precision") or "fp32"
    if precision not in PRECISIONS:
        raise BadInput(f"{path} states an unknown precision", got=precision, expected="/".join(PRECISIONS))
    held = outline_of(path) if path.suffix.lower() == ".onnx" else None
    if held is not None and held.precision is not None and _contradicts(held, precision):
        if manifest is not None or "deploykit.precision" in metadata:
            stale.append(f"it says {precision}, its graph is {held.precision}")
        precision = held.precision
    preprocessing: Preprocessing | None = None
    if fields is not None:
        preprocessing, changed = _as_declared(Preprocessing.from_dict(fields), declared, stated)
        stale += changed
    if preprocessing is None:
        declared = _looked_at(path, declared)
        one = len(declared.inputs) == 1
        preprocessing = stated.of_input(declared.inputs[0], declared.normalizes) if one else None
    task = stated.task or _task(path, manifest, declared)
    last = declared.outputs[0].shape[-1] if declared.outputs and declared.outputs[0].shape else None
    names = stated.names(last if isinstance(last, int) and task == "classify" else None, str(path))
    if names is None and classes is not None:
        names = tuple(str(name) for name in classes)
    if names is not None and stated.classes is None and _unlike(len(names), declared):
        stale.append(f"it names {len(names)} classes, its graph answers {last}")
        names = None
    notes = [said] if (said := assumption(preprocessing, path.name)) is not None else []
    if stale:
        notes.insert(
            0, f"{path.name} was changed by another tool: {'; '.join(stale)}; what the graph holds is believed"
        )
    return Knowledge(preprocessing, names, task, precision, tuple(notes))


def _contradicts(held: Outline, precision: str) -> bool:
    """Whether a graph cannot be of the precision that is stated of it; an engine may compute in less than it stores."""
    if held.quantized:
        return precision in ("fp32", "fp16", "bf16")
    return precision in ("int8", "fp8") or (precision == "fp32" and held.precision != "fp32")


def _as_declared(known: Preprocessing, declared: Declared, stated: Stated) -> tuple[Preprocessing | None, list[str]]:
    """The preprocessing stated inside a file as its graph can take it, and what of it is another graph's.

    None where the input is not even of its channels.
    """
    spec = declared.inputs[0] if len(declared.inputs) == 1 else None
    if spec is None or len(spec.shape) != 4:
        return stated.over(known), []
    ways = [replace(spec, layout=layout) for layout in (known.layout, "NHWC" if known.layout == "NCHW" else "NCHW")]
    fitting = [one for one in ways if one.channels in (None, known.channels)]
    if not fitting:
        return None, [f"it says {known.channels} channels, its graph takes {spec.channels}"]
    spec, changed, found = fitting[0], [], known
    if spec.layout != known.layout:
        changed.append(f"it says {known.layout}, its graph takes {list(spec.shape)}")
        found = replace(found, layout="NHWC" if spec.layout == "NHWC" else "NCHW")
    if stated.size is None and spec.size not in (None, known.size):
        changed.append(f"it says size {list(known.size)}, its graph takes {list(spec.size or ())}")
        found = replace(found, size=spec.size or known.size, resize=None)
    if known.embedded != (spec.dtype == "uint8"):
        changed.append(f"it says {'uint8' if known.embedded else 'float'} input, its graph takes {spec.dtype}")
        found = replace(found, embedded=spec.dtype == "uint8")
    return stated.over(found), changed


def _unlike(names: int, declared: Declared) -> bool:
    """Whether the first output is one of another number of classes."""
    shape = declared.outputs[0].shape if declared.outputs else ()
    return len(shape) == 2 and isinstance(shape[1], int) and shape[1] != names


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
