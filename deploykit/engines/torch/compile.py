"""What ``torch.compile`` needs of a machine, looked at before it is tried."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path


def missing_for_compile(device: str) -> tuple[str, str] | None:
    """What keeps ``torch.compile`` from working here, with the mend; None where nothing does.

    On the CPU Inductor writes C++ against Python's headers; on a GPU it writes Triton kernels, whose launcher is C.
    """
    if compiler() is None:
        return "no C++ compiler is found", "Install one (apt-get install g++), or name it in CXX."
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        return "Python's headers (Python.h) are not installed", "Install them (apt-get install python3-dev)."
    if device == "cuda" and importlib.util.find_spec("triton") is None:
        return "triton is not installed", "pip install triton."
    return None


def compiler() -> str | None:
    """The C++ compiler's command, or None where there is none: ``CXX`` if set, else ``g++``, ``clang++``, ``c++``."""
    named = os.environ.get("CXX")
    names = [named.split()[0]] if named and named.split() else ["g++", "clang++", "c++"]
    return next((found for name in names if (found := shutil.which(name))), None)
