"""Reading back what a command wrote."""

from __future__ import annotations

from pathlib import Path

from deploykit.base.checkpoint import ModelFile, parse_model_file, read_tensors


def read_model_file(path: Path) -> ModelFile:
    """The content of deploykit's ``.pt``."""
    return parse_model_file(read_tensors(path), path)
