"""Where deploykit keeps, for this user, what only saves time: ``DEPLOYKIT_CACHE_DIR``, else the system's cache folder."""

from __future__ import annotations

import os
from pathlib import Path

PICTURES = "pictures.sqlite"
FILES = (PICTURES,)
TEACHERS = "teachers"
TIMING = "tensorrt"
ORT_ENGINES = "ort-trt"
FOLDERS = (TEACHERS, TIMING, ORT_ENGINES)


def cache_folder() -> Path:
    """The folder; it may not exist yet."""
    if named := os.environ.get("DEPLOYKIT_CACHE_DIR"):
        return Path(named)
    from platformdirs import user_cache_path

    return user_cache_path("deploykit")
