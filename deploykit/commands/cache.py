"""List and clean what runs have stored: the stores of run folders, and the user's cache of hashes."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploykit.base.command_result import Result
from deploykit.base.errors import BadInput
from deploykit.base.hashing import file_sha256
from deploykit.base.progress import SILENT, Progress
from deploykit.base.store import MARK, Entry, Store
from deploykit.base.user_cache import FILES, FOLDERS, cache_folder
from deploykit.config.cache import CacheConfig
from deploykit.config.keywords import by_keywords

_SKIPPED = {"node_modules", "site-packages", "__pycache__"}


@dataclass(frozen=True)
class Row:
    """One stored result.

    Attributes:
        place: its folder or file.
        stage: that made it; ``cache`` for the user's cache.
        size_bytes: on disk; files that a run folder shares by hard link count here too.
        age_s: since it was made.
        used: the run folder holds exactly these files now.
        removed: by this call, or what would be without ``yes``.
    """

    place: Path
    stage: str
    size_bytes: int
    age_s: float
    used: bool
    removed: bool


@dataclass(frozen=True)
class CacheResult(Result):
    """What was found and what became of it."""

    action: str
    folder: Path
    rows: tuple[Row, ...]
    real: bool

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, for ``--json``."""
        rows = [
            {
                "place": row.place.as_posix(),
                "stage": row.stage,
                "size_bytes": row.size_bytes,
                "age_s": round(row.age_s),
                "used": row.used,
                "removed": row.removed and self.real,
            }
            for row in self.rows
        ]
        return {"action": self.action, "folder": self.folder.as_posix(), "entries": rows, "removed": self.real}

    def summary(self) -> str:
        """A table for people."""
        if not self.rows:
            return f"No stored results below {self.folder.resolve().name}/"
        shown = self.rows if self.action == "list" else [row for row in self.rows if row.removed]
        lines = [
            f"{row.size_bytes / 1e6:9.2f} MB  {_age(row.age_s):>8}  {'in use' if row.used else 'old':6}"
            f"  {row.stage:16}  {row.place}"
            for row in shown
        ]
        total = sum(row.size_bytes for row in shown) / 1e6
        if self.action == "list":
            return "\n".join(
                [*lines, f"{total:9.2f} MB in {len(shown)} results. `deploykit cache clean` removes old ones."]
            )
        verb = "Removed" if self.real else "Would remove"
        hint = "" if self.real or not shown else " Add --yes to do it."
        return "\n".join([*lines, f"{verb} {len(shown)} of {len(self.rows)} results, {total:.2f} MB.{hint}"])


@by_keywords(CacheConfig)
def cache(folder: Path | str = ".", config: CacheConfig | None = None, *, progress: Progress = SILENT) -> CacheResult:
    """List the stores below ``folder`` and the user's cache, or remove results that no run folder uses now.

    Only folders with the mark of a deploykit store are touched, and of these only entries that are ours; a store whose
    run is at work is left alone.

    Args:
        folder: where run folders lie, at any depth.
        config: what to do.
        progress: where it tells what it leaves alone.

    Raises:
        BadInput: the folder does not exist.
    """
    config = config or CacheConfig()
    folder = Path(folder)
    if not folder.is_dir():
        raise BadInput(f"the folder {folder} does not exist", fix="Name the folder that holds your runs.")
    rows: list[Row] = []
    for root in find_stores(folder):
        rows += _of_store(root, config, progress)
    rows += _of_user_cache(config)
    return CacheResult(config.action, folder, tuple(rows), config.action == "clean" and config.yes)


def find_stores(folder: Path) -> Iterator[Path]:
    """Every store below ``folder``, known by its mark; hidden folders and links are not entered."""
    for place, folders, files in os.walk(folder):
        if MARK in files and Path(place).name == "store":
            folders.clear()
            yield Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _SKIPPED)


def _of_store(root: Path, config: CacheConfig, progress: Progress) -> list[Row]:
    from filelock import FileLock, Timeout

    lock = FileLock(root.parent / "lock")
    removes = config.action == "clean" and config.yes
    if removes:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress.warn(f"{root.parent}: a run is at work there, its store is left alone")
            return []
    try:
        rows = [_row(entry, root.parent, config) for _, entry in Store(root).entries()]
        for row in rows:
            if removes and row.removed:
                shutil.rmtree(row.place)
        return rows
    finally:
        if removes:
            lock.release()


def _row(entry: Entry, run: Path, config: CacheConfig) -> Row:
    used = all(_same(entry.folder / name, run / name) for name in entry.files)
    age = time.time() - _seconds(entry.created)
    return Row(entry.folder, entry.stage, entry.size_bytes, age, used, _goes(config, used, age))


def _goes(config: CacheConfig, used: bool, age_s: float) -> bool:
    old = config.older_than_s is None or age_s >= config.older_than_s
    return config.action == "clean" and old and (config.everything or not used)


def _same(stored: Path, shown: Path) -> bool:
    try:
        return stored.samefile(shown) or file_sha256(stored) == file_sha256(shown)
    except OSError:
        return False


def _of_user_cache(config: CacheConfig) -> list[Row]:
    rows = []
    for path in (cache_folder() / name for name in FILES):
        if not path.is_file():
            continue
        state = path.stat()
        age = time.time() - state.st_mtime
        row = Row(path, "cache", state.st_size, age, True, _goes(config, True, age))
        if row.removed and config.yes:
            path.unlink(missing_ok=True)
        rows.append(row)
    return [*rows, *(_of_folder(cache_folder() / name, config) for name in FOLDERS if (cache_folder() / name).is_dir())]


def _of_folder(folder: Path, config: CacheConfig) -> Row:
    """A folder of the user's cache as one row: as old as its newest file."""
    states = [path.stat() for path in folder.iterdir() if path.is_file()]
    age = time.time() - max((state.st_mtime for state in states), default=folder.stat().st_mtime)
    row = Row(folder, "cache", sum(state.st_size for state in states), age, True, _goes(config, True, age))
    if row.removed and config.yes:
        shutil.rmtree(folder)
    return row


def _seconds(created: str) -> float:
    try:
        return datetime.fromisoformat(created).astimezone(UTC).timestamp()
    except ValueError:
        return 0.0


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
