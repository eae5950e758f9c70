"""Unpacking a run folder that came as a zip or tar file from somewhere: nothing may land outside, nothing may grow wild."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from deploykit.base.errors import BadInput, from_os_error

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
MOST_BYTES = 16 << 30
MOST_FILES = 100_000


def is_bundle(path: Path) -> bool:
    """Whether the file's name is that of a bundle."""
    return path.is_file() and path.name.lower().endswith(SUFFIXES)


def unpack(path: Path, folder: Path) -> Path:
    """Unpack a bundle into ``folder`` and return where its ``report.json`` lies: at its top, or in its only folder.

    Raises:
        BadInput: no bundle we can read, paths that leave the folder, links, devices, too much, or no report in it.
        SystemTrouble: the disk is full.
    """
    try:
        members = _zip(path) if path.name.lower().endswith(".zip") else _tar(path)
        left, count = MOST_BYTES, 0
        for name, size, content in members:
            left, count = left - size, count + 1
            if left < 0 or count > MOST_FILES:
                raise BadInput(f"{path} is too large to unpack", expected=f"at most {MOST_BYTES >> 30} GiB")
            place = folder / _inside(name, path)
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as file:
                shutil.copyfileobj(content, file)
    except OSError as error:
        raise from_os_error(error, f"cannot unpack {path}") from error
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise BadInput(f"{path} cannot be unpacked: {error}", expected="a zip or tar of a run folder") from error
    tops = [folder, *(one for one in sorted(folder.iterdir()) if one.is_dir())]
    runs = [one for one in tops if (one / "report.json").is_file()]
    if not runs:
        raise BadInput(f"{path} holds no run folder", expected="report.json at its top or in its only folder")
    return runs[0]


def _inside(name: str, path: Path) -> PurePosixPath:
    inner = PurePosixPath(name)
    if inner.is_absolute() or ".." in inner.parts or "\\" in name or ":" in name or not inner.parts:
        raise BadInput(f"{path} holds a path that leaves it", got=repr(name[:100]), fix="Do not trust this bundle.")
    return inner


def _zip(path: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(path) as bundle:
        for one in bundle.infolist():
            if stat.S_ISLNK(one.external_attr >> 16):
                raise _link(path, one.filename)
            if not one.is_dir():
                with bundle.open(one) as content:
                    yield one.filename, one.file_size, content


def _tar(path: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with tarfile.open(path) as bundle:
        for one in bundle:
            if one.isdir():
                continue
            content = bundle.extractfile(one) if one.isreg() else None
            if content is None:
                raise _link(path, one.name)
            with content:
                yield one.name, one.size, content


def _link(path: Path, name: str) -> BadInput:
    return BadInput(f"{path} holds a link or a device", got=repr(name[:100]), expected="plain files and folders")
