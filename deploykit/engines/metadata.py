"""What an artifact says about itself, by precedence: flag, then manifest, then the file's own metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploykit.base.artifact import read_manifest
from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.targets import PRECISIONS


@dataclass(frozen=True)
class Knowledge:
    """Preprocessing, class names and precision of an artifact, with what had to be assumed."""

    preprocessing: Preprocessing | None
    classes: tuple[str, ...] | None
    precision: str
    notes: tuple[str, ...] = ()


def of_file(path: Path, metadata: Mapping[str, str], *, size: int | None, embedded: bool) -> Knowledge:
    """Put together what is known of ``path``.

    ``metadata``: ``deploykit.*`` entries inside the file. ``size``: the flag, or None. ``embedded``: the engine takes
    uint8 NHWC; only used where nothing else is known.

    Raises:
        BadInput: manifest or metadata cannot be read.
    """
    manifest = read_manifest(path)
    fields: Any = manifest.preprocessing if manifest else None
    if fields is None:
        fields = _metadata(path, metadata, "deploykit.preprocessing", dict)
    classes: Any = manifest.classes if manifest else None
    if classes is None:
        classes = _metadata(path, metadata, "deploykit.classes", list)
    precision = (manifest.precision if manifest else None) or metadata.get("deploykit.precision") or "fp32"
    if precision not in PRECISIONS:
        raise BadInput(f"{path} states an unknown precision", got=precision, expected="/".join(PRECISIONS))
    preprocessing = Preprocessing.from_dict(fields) if fields is not None else None
    notes: tuple[str, ...] = ()
    if preprocessing is not None and size is not None:
        preprocessing = preprocessing.resized(size)
    elif preprocessing is None and size is not None:
        preprocessing = Preprocessing(size=(size, size), embedded=embedded)
        notes = ("the file does not carry its preprocessing: ImageNet mean and standard deviation are assumed",)
    names = tuple(str(name) for name in classes) if classes is not None else None
    return Knowledge(preprocessing, names, precision, notes)


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
