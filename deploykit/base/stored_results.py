"""What stores and the user's cache hold, entry by entry, and what of it goes."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deploykit.base.hashing import file_sha256
from deploykit.base.progress import Progress
from deploykit.base.store import MARK, Entry, Store
from deploykit.base.user_cache import FILES, cache_folder, cached_folders

_SKIPPED = {"node_modules", "site-packages", "__pycache__"}
Goes = Callable[[bool, float], bool]
"""Whether an entry goes: by whether it is used, and its age in seconds."""


@dataclass(frozen=True)
class StoredResult:
    """One stored result.

    ``place``: its folder or file. ``stage``: that made it; ``cache`` for the user's cache. ``size_bytes``: on disk;
    files that a run folder shares by hard link count here too. ``age_s``: since it was made. ``used``: the run folder
    holds exactly these files now. ``removed``: by this call, or what would be without ``yes``.
    """

    place: Path
    stage: str
    size_bytes: int
    age_s: float
    used: bool
    removed: bool


def find_stores(folder: Path) -> Iterator[Path]:
    """Every store below ``folder``, known by its mark; hidden folders and links are not entered."""
    for place, folders, files in os.walk(folder):
        if MARK in files and Path(place).name == "store":
            folders.clear()
            yield Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _SKIPPED)


def results_of_store(root: Path, goes: Goes, *, remove: bool, progress: Progress) -> list[StoredResult]:
    """The entries of one store, the oldest first; none of a store whose run is at work where they are to be removed."""
    from filelock import FileLock, Timeout

    lock = FileLock(root.parent / "lock")
    if remove:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress.warn(f"{root.parent}: a run is at work there, its store is left alone")
            return []
    try:
        rows = [_of_entry(entry, root.parent, goes) for _, entry in Store(root).entries()]
        for row in rows:
            if remove and row.removed:
                shutil.rmtree(row.place)
        return rows
    finally:
        if remove:
            lock.release()


def _of_entry(entry: Entry, run: Path, goes: Goes) -> StoredResult:
    used = all(_same(entry.folder / name, run / name) for name in entry.files)
    age = time.time() - _seconds(entry.created)
    return StoredResult(entry.folder, entry.stage, entry.size_bytes, age, used, goes(used, age))


def _same(stored: Path, shown: Path) -> bool:
    try:
        return stored.samefile(shown) or file_sha256(stored) == file_sha256(shown)
    except OSError:
        return False


def results_of_user_cache(goes: Goes, *, remove: bool) -> list[StoredResult]:
    """The files of the user's cache, and its folders as one entry each; all of them count as used."""
    places = [cache_folder() / name for name in FILES], [cache_folder() / name for name in cached_folders()]
    return [
        *(_of_file(path, goes, remove) for path in places[0] if path.is_file()),
        *(_of_folder(path, goes, remove) for path in places[1] if path.is_dir()),
    ]


def _of_file(path: Path, goes: Goes, remove: bool) -> StoredResult:
    state = path.stat()
    age = time.time() - state.st_mtime
    row = StoredResult(path, "cache", state.st_size, age, True, goes(True, age))
    if row.removed and remove:
        path.unlink(missing_ok=True)
    return row


def _of_folder(folder: Path, goes: Goes, remove: bool) -> StoredResult:
    """As old as its newest file."""
    states = [path.stat() for path in folder.iterdir() if path.is_file()]
    age = time.time() - max((state.st_mtime for state in states), default=folder.stat().st_mtime)
    row = StoredResult(folder, "cache", sum(state.st_size for state in states), age, True, goes(True, age))
    if row.removed and remove:
        shutil.rmtree(folder)
    return row


def _seconds(created: str) -> float:
    try:
        return datetime.fromisoformat(created).astimezone(UTC).timestamp()
    except ValueError:
        return 0.0
