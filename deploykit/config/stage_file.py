"""Stage files: one YAML that reproduces one stage alone (``deploykit export --config stages/fp32.export.yaml``)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from deploykit.base.atomic import JsonObject, write_text
from deploykit.base.errors import BadInput, from_os_error
from deploykit.base.spec import parse_spec


def write_stage(path: Path, command: str, arguments: Mapping[str, object], paths: tuple[str, ...]) -> None:
    """Store the plain arguments of the public function ``command``.

    Args:
        path: of the stage file.
        command: its name (``export``).
        arguments: keyword arguments, JSON-able; ``config`` as :meth:`Config.plain`.
        paths: names of the arguments that are paths (or lists of ``[NAME=]PATH[@TARGET]``); plain paths are stored
            relative to the stage file's folder.
    """
    stored = dict(arguments)
    for name in paths:
        if stored.get(name) is not None:
            moved = _moved(stored[name], lambda one: Path(os.path.relpath(one, path.parent)))
            stored[name] = moved.as_posix() if isinstance(moved, Path) else moved
    head = f"# deploykit {command} --config {path.name}\n"
    write_text(
        path, head + yaml.safe_dump({"command": command, "paths": list(paths), "arguments": stored}, sort_keys=False)
    )


def read_stage(path: Path, command: str) -> JsonObject:
    """The arguments stored in a stage file of ``command``; its paths resolved, plain ones as ``Path``.

    Raises:
        BadInput: missing, no YAML, or of another command.
    """
    try:
        stored = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise from_os_error(error, f"cannot read {path}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is no YAML: {error}") from error
    if not isinstance(stored, dict) or set(stored) != {"command", "paths", "arguments"}:
        raise BadInput(
            f"{path} is no stage file", expected="command, paths, arguments", fix="Use one from RUN/stages/."
        )
    if not isinstance(stored["arguments"], dict) or not isinstance(stored["paths"], list):
        raise BadInput(f"{path} is no stage file", expected="arguments as a mapping, paths as a list")
    if stored["command"] != command:
        raise BadInput(f"{path} is a stage of another command", got=stored["command"], expected=command)
    arguments = dict(stored["arguments"])
    for name in stored["paths"]:
        if arguments.get(name) is not None:
            arguments[name] = _moved(arguments[name], lambda one: Path(os.path.normpath(path.parent / one)))
    return arguments


def _moved(value: Any, move: Callable[[Path], Path]) -> Any:
    """A path with ``move`` applied, or a list of ``[NAME=]PATH[@TARGET]`` with it applied to each path."""
    if not isinstance(value, list | tuple):
        return move(Path(value))
    return [str(replace(spec, path=move(spec.path))) for spec in map(parse_spec, map(str, value))]
