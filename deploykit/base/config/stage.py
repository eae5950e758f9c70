"""Stage files: one YAML that reproduces one stage alone (``deploykit export --config stages/fp32.export.yaml``)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from deploykit.base.atomic import write_text
from deploykit.base.errors import BadInput, from_os_error


def write_stage(path: Path, command: str, arguments: dict[str, Any], paths: tuple[str, ...]) -> None:
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
            value = stored[name]
            stored[name] = (
                [_relative(v, path) for v in value] if isinstance(value, list | tuple) else _relative(value, path)
            )
    head = f"# deploykit {command} --config {path.name}\n"
    write_text(
        path, head + yaml.safe_dump({"command": command, "paths": list(paths), "arguments": stored}, sort_keys=False)
    )


def read_stage(path: Path, command: str) -> dict[str, Any]:
    """The arguments stored in a stage file of ``command``, with its paths resolved.

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
    if stored["command"] != command:
        raise BadInput(f"{path} is a stage of another command", got=stored["command"], expected=command)
    arguments = dict(stored["arguments"])
    for name in stored["paths"]:
        value = arguments.get(name)
        if value is not None:
            arguments[name] = [_resolved(v, path) for v in value] if isinstance(value, list) else _resolved(value, path)
    return arguments


def _split(text: str) -> tuple[str, str, str]:
    """``NAME=PATH@TARGET:…`` → (``NAME=``, ``PATH``, ``@TARGET:…``)."""
    head, sep, rest = text.partition("=") if "=" in text.split("@")[0] else ("", "", text)
    place, at, tail = rest.partition("@")
    return head + sep, place, at + tail


def _relative(value: str | Path, stage_file: Path) -> str:
    head, place, tail = _split(str(value))
    return head + os.path.relpath(place, stage_file.parent) + tail


def _resolved(value: str, stage_file: Path) -> str:
    head, place, tail = _split(str(value))
    return head + os.path.normpath(stage_file.parent / place) + tail
