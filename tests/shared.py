"""Files that several processes of one suite need: the first makes them, each gets a copy of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder of this process with what ``make`` writes into an empty one.

    Args:
        factory: of the session.
        name: of the folder, one for each ``make``.
        make: called with the folder once in the whole suite, however many processes it has.
    """
    own = factory.mktemp(name)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        make(own)
        return own
    whole = factory.getbasetemp().parent / f"once-{name}"
    with FileLock(f"{whole}.lock"):
        if not whole.is_dir():
            part = factory.mktemp(f"{name}-part")
            make(part)
            part.rename(whole)
    shutil.copytree(whole, own, dirs_exist_ok=True)
    return own
