"""Which line of a network's own code something happened at: file and line, outside of PyTorch and the standard library."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from types import FrameType, TracebackType

import torch

_TORCH = f"{Path(torch.__file__).parent}/"
_OURS = f"{Path(__file__).parents[1]}/"
_CLI = f"{_OURS}cli/"  # calls commands through libraries of others
_STANDARD = f"{sysconfig.get_paths()['stdlib']}/"


def is_theirs(file: str) -> bool:
    """Whether a file holds the network's code: the user's, or that of a library of networks."""
    if file.startswith(("<", _TORCH, _OURS)):
        return False
    return "-packages/" in file or not file.startswith(_STANDARD)


def shown(file: str, line: int) -> str:
    """``net.py:12``: relative to the working folder, or to where libraries are installed."""
    path = Path(file)
    if path.is_relative_to(Path.cwd()):
        return f"{path.relative_to(Path.cwd())}:{line}"
    return f"{file.rpartition('-packages/')[2] if '-packages/' in file else path.name}:{line}"


def line_here() -> str | None:
    """The innermost line that is at work now of a network that deploykit runs; a line of who called us is none."""
    frame: FrameType | None = sys._getframe(1)
    found: str | None = None
    while frame is not None:
        file = frame.f_code.co_filename
        if found is None and is_theirs(file):
            found = shown(file, frame.f_lineno)
        elif found is not None and file.startswith(_OURS) and not file.startswith(_CLI):
            return found
        frame = frame.f_back
    return None


def line_of_error(error: BaseException) -> str | None:
    """The innermost line of the network that ``error`` came through."""
    found: str | None = None
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file.startswith(_OURS):
            found = None
        elif is_theirs(file):
            found = shown(file, trace.tb_lineno)
        trace = trace.tb_next
    return found
