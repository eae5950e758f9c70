"""One piece of work on an output at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deploykit.base.atomic import remove_leftovers_of
from deploykit.base.hashing import value_sha256
from deploykit.base.progress import SILENT, Progress
from deploykit.base.user_cache import cache_folder

if TYPE_CHECKING:
    from filelock import BaseFileLock


@contextmanager
def alone_with(output: Path, progress: Progress = SILENT) -> Iterator[None]:
    """Work on ``output`` alone: a second process of this user waits, and says so. The lock of a killed one is free.

    What a killed one left under temporary names is removed.

    The lock lies in the user's cache folder, so that nothing is left beside the output; where that folder cannot be
    written there is no lock, which is said.

    ``output``: the file that is being made; it need not exist.
    """
    lock = _acquired(output, progress)
    try:
        if lock is not None:
            remove_leftovers_of(output)
        yield
    finally:
        if lock is not None:
            lock.release()


def _acquired(output: Path, progress: Progress) -> BaseFileLock | None:
    from filelock import FileLock, Timeout

    folder = cache_folder() / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{value_sha256(str(output.resolve()))[:32]}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress.say(f"Another process is at work on {output}: waiting for it to end.")
            lock.acquire()
    except OSError as error:
        progress.warn(f"two processes at work on {output} would disturb each other: cannot lock in {folder} ({error})")
        return None
    return lock
