"""``--config FILE``: the arguments of one stored stage; and positional arguments that ``--config`` makes optional."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from deploykit.base.errors import BadInput

T = TypeVar("T")


def stage_arguments(path: Path, command: str, kind: Any) -> dict[str, Any]:
    """The keyword arguments of the public function ``command`` that a stage file holds, ``config`` built as ``kind``.

    Raises:
        BadInput: the file is no stage of this command, or its config does not fit.
    """
    from deploykit.config.common import build
    from deploykit.config.stage_file import read_stage

    arguments = read_stage(path, command)
    arguments["config"] = build(kind, arguments.get("config", {}), str(path))
    return arguments


def needed(value: T | None, name: str) -> T:
    """``value``, or the error for a missing positional argument that only ``--config`` makes optional."""
    if value is None or value == []:
        raise BadInput(f"missing argument {name}", fix=f"Name {name}, or a stored stage with --config FILE.")
    return value
