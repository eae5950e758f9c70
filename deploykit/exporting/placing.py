"""An ONNX file and its weights come to their place together, or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploykit.base.artifact import files_of, manifest_path, read_manifest
from deploykit.base.atomic import told
from deploykit.base.claim import is_claimed, write_claim
from deploykit.base.errors import BadInput
from deploykit.exporting.write import data_path


@contextmanager
def scratch(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` on the same disk, gone when the block ends, however it ends."""
    folder = target.parent / f".{uuid.uuid4().hex[:8]}.tmp.{target.name}"
    try:
        folder.mkdir()
        yield folder
    except OSError as error:
        raise told(error, folder, target) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def place(folder: Path, target: Path, names: list[str]) -> list[Path]:
    """Move the files to their place, the weights first; what an older export left of weights goes.

    Until the manifest is written, a claim tells whose they are.
    """
    write_claim(target, files_of(*(folder / name for name in names)))
    for name in reversed(names):
        os.replace(folder / name, target.parent / name)
    if data_path(target).name not in names and (old := _own_files(target)) and data_path(target).name in old:
        data_path(target).unlink(missing_ok=True)
    return [target.parent / name for name in names]


def _own_files(target: Path) -> dict[str, str]:
    manifest = read_manifest(target) if manifest_path(target).exists() else None
    return manifest.files if manifest else {}


def check_data_file(target: Path, *, force: bool) -> None:
    """Raise :class:`BadInput` where weights that are not ours lie beside ``target``."""
    beside = data_path(target)
    own = _own_files(target)
    if beside.exists() and not force and beside.name not in own and not is_claimed(target, own):
        raise BadInput(f"{beside} exists and was not made by deploykit", fix="Choose another -o, or pass --force.")
