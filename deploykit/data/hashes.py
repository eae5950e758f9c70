"""Hashes of picture files, kept in the user's cache so that a big folder is read through only once."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from deploykit.base.errors import BadInput, from_os_error
from deploykit.base.hashing import file_sha256
from deploykit.base.progress import SILENT, Progress
from deploykit.base.user_cache import PICTURES, cache_folder

_READERS = min(8, (os.cpu_count() or 1) * 2)
_COMMIT_EVERY = 2048
_TABLE = "CREATE TABLE IF NOT EXISTS {table} (path TEXT PRIMARY KEY, size INT, mtime_ns INT, answer TEXT)"


def file_hashes(paths: Sequence[str], progress: Progress = SILENT) -> np.ndarray:
    """The sha256 of each file's content.

    Returns ``S64`` ``[n]``, hex.

    Raises:
        BadInput: a file cannot be read.
    """
    answers = _answers("sha256", paths, lambda path: file_sha256(Path(path)), "hash pictures", progress)
    return np.array(answers, dtype="S64")


def broken_files(paths: Sequence[str], progress: Progress = SILENT) -> dict[int, str]:
    """Decode every picture once; the index of each that cannot be read → why."""
    answers = _answers("trouble", paths, _trouble, "check pictures", progress)
    return {index: answer for index, answer in enumerate(answers) if answer}


def all_hashed(paths: Sequence[str]) -> bool:
    """Whether the cache knows the hash of each of these files as it is now."""
    with _opened("sha256") as cache:
        return all(_known(cache, "sha256", path, _state(path)) is not None for path in paths)


def _trouble(path: str) -> str:
    from deploykit.data.images import read_image

    try:
        read_image(path)
    except BadInput as error:
        return error.what
    return ""


def _answers(table: str, paths: Sequence[str], ask: Callable[[str], str], title: str, progress: Progress) -> list[str]:
    states = [_state(path) for path in paths]
    with _opened(table) as cache:
        answers = [_known(cache, table, path, state) for path, state in zip(paths, states, strict=True)]
        open_ones = [index for index, answer in enumerate(answers) if answer is None]
        if not open_ones:
            return [answer or "" for answer in answers]
        with ThreadPoolExecutor(_READERS) as pool, progress.task(title, len(open_ones), "pictures") as task:
            for start in range(0, len(open_ones), _COMMIT_EVERY):
                some = open_ones[start : start + _COMMIT_EVERY]
                try:
                    for index, answer in zip(some, pool.map(ask, [paths[index] for index in some]), strict=True):
                        answers[index] = answer
                        task.advance()
                except OSError as error:
                    raise from_os_error(error, "cannot read a picture") from error
                _store(cache, table, [(os.path.abspath(paths[i]), *states[i], answers[i]) for i in some])
    return [answer or "" for answer in answers]


def _state(path: str) -> tuple[int, int]:
    try:
        state = os.stat(path)
    except OSError as error:
        raise from_os_error(error, f"cannot read {path}") from error
    return state.st_size, state.st_mtime_ns


@contextmanager
def _opened(table: str) -> Iterator[sqlite3.Connection]:
    """The cache; one in memory where the user's cannot be written (a read-only home is no reason to stop)."""
    try:
        place = cache_folder() / PICTURES
        place.parent.mkdir(parents=True, exist_ok=True)
        cache = sqlite3.connect(place, timeout=10)
        cache.execute(_TABLE.format(table=table))
    except (sqlite3.Error, OSError):
        cache = sqlite3.connect(":memory:")
        cache.execute(_TABLE.format(table=table))
    try:
        yield cache
    finally:
        cache.close()


def _known(cache: sqlite3.Connection, table: str, path: str, state: tuple[int, int]) -> str | None:
    query = f"SELECT answer FROM {table} WHERE path = ? AND size = ? AND mtime_ns = ?"
    try:
        found = cache.execute(query, (os.path.abspath(path), *state)).fetchone()
    except sqlite3.Error:
        return None
    return None if found is None else str(found[0])


def _store(cache: sqlite3.Connection, table: str, rows: list[tuple[str, int, int, str | None]]) -> None:
    try:
        with cache:
            cache.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?)", rows)
    except sqlite3.Error:
        return  # the cache only saves time
