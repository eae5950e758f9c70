"""deploykit: from a trained image CNN to a verified, honestly measured engine.

The public functions are resolved on first use, so that ``import deploykit`` imports neither torch nor onnx.
"""

from __future__ import annotations

import importlib
from typing import Any

from deploykit._version import __version__

_PUBLIC = {
    "train": "deploykit.commands.train",
    "prune": "deploykit.commands.prune",
    "distill": "deploykit.commands.distill",
    "export": "deploykit.commands.export",
    "quantize": "deploykit.commands.quantize",
    "build": "deploykit.commands.build",
    "verify": "deploykit.commands.verify",
    "evaluate": "deploykit.commands.evaluate",
    "benchmark": "deploykit.commands.benchmark",
    "report": "deploykit.commands.report",
    "gate": "deploykit.commands.gate",
    "predict": "deploykit.commands.predict",
    "inspect": "deploykit.commands.inspect",
    "doctor": "deploykit.commands.doctor",
    "init": "deploykit.commands.init",
    "cache": "deploykit.commands.cache",
    "run": "deploykit.pipeline",
    "open_runner": "deploykit.engines",
    "load_model": "deploykit.models",
    "open_data": "deploykit.data",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'deploykit' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
