"""Files that are there whole or not at all: written under a temporary name in the same folder, then renamed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

from deploykit.base.errors import BadInput, DeploykitError, from_os_error

JsonObject = dict[str, Any]
"""A JSON object whose fields its reader looks up by name: of a manifest, a recipe, ``--json``."""


def check_parent(output: Path) -> None:
    """Check that the folder that ``output`` is to lie in is there and takes files, before any work is done for it.

    Raises:
        BadInput: it is missing, is a file, or may not be written.
    """
    parent = output.parent
    if parent.is_dir():
        _check_access(parent, output)
        return
    above = next((place for place in (parent, *parent.parents) if place.exists()), None)
    if above is not None and not above.is_dir():
        raise BadInput(f"cannot write {output}: {above} is a file", expected="a folder")
    raise BadInput(f"cannot write {output}: the folder {parent} does not exist", fix="Create it first.")


def _check_access(folder: Path, output: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise BadInput(
            f"cannot write {output}: no permission for the folder {folder}",
            fix="Choose another path or change its permissions.",
        )


def make_folder(folder: Path) -> None:
    """Make ``folder``, to write into, where it is missing; the folder that it is to lie in must be there.

    Raises:
        BadInput: it is a file, or cannot be made.
    """
    if folder.is_dir():
        _check_access(folder, folder)
        return
    if folder.exists():
        raise BadInput(f"cannot write into {folder}: it is a file", expected="a folder")
    check_parent(folder)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise from_os_error(error, f"cannot write {folder}") from error


@contextmanager
def atomic_path(output: Path, before: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """A temporary path beside ``output`` that takes its place when the block ends well, and is removed when it does not.

    The temporary name keeps the suffixes of ``output``, because some writers look at them.

    ``output``: the final path. ``before``: called with the temporary path, complete, before it takes its place.

    Raises:
        BadInput: the folder is missing or not writable.
        SystemTrouble: the disk is full or failed.
    """
    check_parent(output)
    temporary = output.parent / f".{uuid.uuid4().hex[:8]}.tmp.{output.name}"
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        if before is not None:
            before(temporary)
        os.replace(temporary, output)
    except OSError as error:
        raise told(error, temporary, output) from error
    finally:
        with suppress(OSError):  # a read-only disk says so even of a file that is not there
            temporary.unlink(missing_ok=True)


@contextmanager
def scratch(output: Path) -> Iterator[Path]:
    """A folder beside ``output`` on the same disk, gone when the block ends, however it ends."""
    folder = output.parent / f".{uuid.uuid4().hex[:8]}.tmp.{output.name}"
    try:
        folder.mkdir()
        yield folder
    except OSError as error:
        raise told(error, folder, output) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def atomic_folder(output: Path) -> Iterator[Path]:
    """Like :func:`atomic_path` for a folder: filled under a temporary name, then renamed over a missing ``output``."""
    check_parent(output)
    with scratch(output) as temporary:
        yield temporary
        os.replace(temporary, output)


def told(error: OSError, temporary: Path, output: Path) -> DeploykitError:
    """An error of writing in the user's words: not of a temporary file, but of the folder that takes none."""
    if error.filename is not None and temporary.name in str(error.filename):
        if error.errno in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS):
            return BadInput(
                f"cannot write {output}: no file can be made in {output.parent}",
                got=error.strerror,
                fix="Choose another path or change its permissions.",
            )
        error.filename = str(output)
    return from_os_error(error, f"cannot write {output}")


def write_bytes(output: Path, content: bytes, before: Callable[[Path], None] | None = None) -> None:
    """Write ``content`` whole or not at all; ``before`` as for :func:`atomic_path`."""
    with atomic_path(output, before) as temporary:
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
            _remove(left)


def remove_leftovers_of(output: Path) -> None:
    """Remove what a killed command on ``output`` left under temporary names; its lock must be held."""
    for ending in ("", ".manifest.json", ".attachments.json", ".choices.json"):
        for left in output.parent.glob(f".????????.tmp.{escape(output.name)}{ending}"):
            _remove(left)


def _remove(left: Path) -> None:
    with suppress(OSError):
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
