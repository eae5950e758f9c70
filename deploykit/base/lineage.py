"""The chain an artifact came from, followed through its manifests."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from deploykit.base.artifact import Manifest, artifact_sha256, is_unmodified, read_manifest
from deploykit.base.atomic import JsonObject

MODEL_SUFFIXES = (".pt", ".pth", ".safetensors", ".pt2", ".ckpt", ".bin")
LONGEST = 32


class StepRow(TypedDict):
    """One of a report's ``steps``: the stage, the path and hash of what it made, and its configuration."""

    stage: str
    output: str
    sha256: str
    config: JsonObject


@dataclass(frozen=True)
class Chain:
    """What is known of an artifact's past.

    Attributes:
        model: the last model file in its chain, itself where it is one; None where that cannot be found.
        paths: of the artifacts, oldest first, itself the last.
        arch: how the model file's tensors were named when the artifact was made from it, or None.
        steps: as of the report's ``steps``, oldest first.
        notes: what does not fit: a modified file, a parent that is gone or has changed.
    """

    model: Path | None
    steps: tuple[StepRow, ...]
    notes: tuple[str, ...]
    paths: tuple[Path, ...] = ()
    arch: str | None = None


def chain_of(path: Path, folder: Path | None = None) -> Chain:
    """Follow the parents of ``path`` that have a path (the ``model`` before others); each must still have its hash.

    ``folder``: what paths in the steps are relative to; None: only names.
    """
    steps: list[StepRow] = []
    notes: list[str] = []
    paths: list[Path] = []
    model: Path | None = None
    arch: str | None = None
    for _ in range(LONGEST):
        paths.insert(0, path)
        if model is None and path.suffix.lower() in MODEL_SUFFIXES:
            model = path
        manifest = read_manifest(path)
        if manifest is None:
            break
        if not is_unmodified(path, manifest):
            notes.append(f"{path.name} was modified since {manifest.stage} made it")
            break
        steps.insert(0, _step(path, manifest, folder))
        before = _parent(path, manifest, notes)
        if before is None:
            break
        if model is None:
            arch = manifest.config.get("arch")
        path = before
    return Chain(model, tuple(steps), tuple(notes), tuple(paths), arch if isinstance(arch, str) else None)


def _step(path: Path, manifest: Manifest, folder: Path | None) -> StepRow:
    shown = path.name if folder is None else Path(os.path.relpath(path, folder)).as_posix()
    return {"stage": manifest.stage, "output": shown, "sha256": artifact_sha256(path), "config": dict(manifest.config)}


def _parent(path: Path, manifest: Manifest, notes: list[str]) -> Path | None:
    named = sorted((one for one in manifest.parents if one.path), key=lambda one: one.role != "model")
    for one in named:
        assert one.path is not None
        place = Path(os.path.normpath(path.parent / one.path))
        if not place.is_file():
            notes.append(f"{one.path}, which {path.name} was made from, is not there any more")
        elif artifact_sha256(place) != one.sha256:
            notes.append(f"{one.path} is not the file any more that {path.name} was made from")
        else:
            return place
    return None
