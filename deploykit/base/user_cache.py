"""Where deploykit keeps, for this user, what only saves time: ``DEPLOYKIT_CACHE_DIR``, else the system's cache folder."""

from __future__ import annotations

import os
from pathlib import Path

from deploykit.base.progress import Progress
from deploykit.base.targets import target_names

PICTURES = "pictures.sqlite"
FILES = (PICTURES,)
TEACHERS = "teachers"


def cached_folders() -> tuple[str, ...]:
    """Names of the folders: of teachers' answers, and of targets whose library builds or measures what can be kept."""
    return (TEACHERS, *target_names(lambda row: row.kept))


def cache_folder() -> Path:
    """The folder; it may not exist yet."""
    if named := os.environ.get("DEPLOYKIT_CACHE_DIR"):
        return Path(named)
    from platformdirs import user_cache_path

    return user_cache_path("deploykit")


def usable_folder(name: str, progress: Progress) -> Path | None:
    """The cache's folder ``name``, made where it is missing; None where nothing can be kept there, which is told."""
    folder = cache_folder() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        tell_unkept(error, progress)
        return None
    if not os.access(folder, os.W_OK | os.X_OK):
        tell_unkept("no permission", progress)
        return None
    return folder


def tell_unkept(why: Exception | str, progress: Progress) -> None:
    """Warn that the work goes on without keeping what would save time the next time."""
    why = why.strerror or str(why) if isinstance(why, OSError) else why
    progress.warn(
        f"nothing is kept in the cache folder {cache_folder()} ({why}): later runs do this work again; "
        "DEPLOYKIT_CACHE_DIR names another folder"
    )
