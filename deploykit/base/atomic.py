"""Files that are there whole or not at all: written under a temporary name in the same folder, then renamed."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploykit.base.errors import BadInput, from_os_error


@contextmanager
def atomic_path(output: Path) -> Iterator[Path]:
    """A temporary path beside ``output`` that takes its place when the block ends well, and is removed when it does not.

    The temporary name keeps the suffixes of ``output``, because some writers look at them.

    Raises:
        BadInput: the folder is missing or not writable.
        SystemTrouble: the disk is full or failed.
    """
    if not output.parent.is_dir():
        raise BadInput(f"cannot write {output}: the folder {output.parent} does not exist", fix="Create it first.")
    temporary = output.parent / f".{uuid.uuid4().hex[:8]}.tmp.{output.name}"
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, output)
    except OSError as error:
        raise from_os_error(error, f"cannot write {output}") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(output: Path) -> Iterator[Path]:
    """Like :func:`atomic_path` for a folder: filled under a temporary name, then renamed over a missing ``output``."""
    if not output.parent.is_dir():
        raise BadInput(f"cannot write {output}: the folder {output.parent} does not exist", fix="Create it first.")
    temporary = output.parent / f".{uuid.uuid4().hex[:8]}.tmp.{output.name}"
    try:
        temporary.mkdir()
        yield temporary
        os.replace(temporary, output)
    except OSError as error:
        raise from_os_error(error, f"cannot write {output}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(output: Path, content: bytes) -> None:
    """Write ``content`` whole or not at all."""
    with atomic_path(output) as temporary:
        temporary.write_bytes(content)


def write_text(output: Path, content: str) -> None:
    """Write UTF-8 text whole or not at all."""
    write_bytes(output, content.encode("utf-8"))


def write_json(output: Path, value: Any) -> None:
    """Write indented JSON whole or not at all.

    Raises:
        ValueError: the value holds NaN or infinity.
    """
    write_text(output, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed run of :func:`atomic_path` left in ``folder``: files older than an hour with its names."""
    import time

    for left in folder.glob(".????????.tmp.*"):
        if time.time() - left.stat().st_mtime > 3600:
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
