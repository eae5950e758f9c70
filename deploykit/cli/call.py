"""From what was given on the command line to the public function of the same name, and its result."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from deploykit.base.errors import BadInput
from deploykit.base.progress import Progress
from deploykit.cli import own
from deploykit.cli.flags import Given, Parameter
from deploykit.cli.own import Fields
from deploykit.cli.runtime import running

if TYPE_CHECKING:
    from deploykit.config.command import Command


def call(name: str, parameters: list[Parameter], given: Given) -> None:
    """Run the command ``name`` with what was given.

    Raises:
        typer.Exit: always, with the exit code.
    """
    from deploykit.config.command import command_of

    command = command_of(name)
    speaks = not command.spread or os.environ.get("RANK", "0") == "0"
    quiet, debug, as_json = (bool(given[key]) for key in ("quiet", "debug", "json"))
    with running(name, quiet=quiet or not speaks, debug=debug, as_json=as_json and speaks) as run:
        import deploykit

        take_former(parameters, given, run.progress)
        fields, flags = fields_of(command, parameters, given), flags_of(parameters)
        result = own.mode(name, fields, given, flags, run.progress)
        if result is None:
            arguments = _arguments(name, command, fields, flags, given)
            result = getattr(deploykit, name)(**arguments, progress=run.progress)
        if speaks:
            run.finish(result)


def _arguments(name: str, command: Command, fields: Fields, flags: dict[str, str], given: Given) -> Given:
    """What the function takes, ``progress`` aside."""
    from deploykit.config.common import build

    force = {"force": bool(given["force"])} if command.force else {}
    if given.get("config") is not None:
        return {**stage_arguments(Path(given["config"]), name, command.config), **force}
    taken: Given = {}
    for one in command.arguments:
        if not one.flags and one.default is None:
            own.needed(given[one.name], one.metavar or one.name.upper())
        if not one.own:
            taken[one.name] = given[one.name] if given[one.name] is not None else one.default or None
    fields = own.fields(name, fields, given)
    for key, info in command.config.model_fields.items():
        if info.is_required():
            own.needed(fields.get(key), flags[key])
    return {**taken, "config": build(command.config, fields, flags=flags), **force}


def take_former(parameters: list[Parameter], given: Given, progress: Progress) -> None:
    """What was given by a former flag is given by its present one, which is said.

    Raises:
        BadInput: both were given.
    """
    for one in parameters:
        former = given.pop(f"old_{one['name']}", None)
        if former is None:
            continue
        if given[one["name"]] is not None:
            raise BadInput(f"{one['old']} and {shown(one)} are one option", fix=f"Give {shown(one)} only.")
        progress.warn(f"{one['old']} is called {shown(one)} now")
        given[one["name"]] = former


def fields_of(command: Command, parameters: list[Parameter], given: Given) -> Fields:
    """The configuration's plain fields, only those that were given.

    Raises:
        BadInput: a text that cannot be read.
    """
    from deploykit.config.command import field_at
    from deploykit.config.flag import flag_of

    fields: Fields = {}
    for one in parameters:
        value = given[one["name"]]
        if "field" not in one or value is None:
            continue
        info = field_at(command, one["field"])
        mark = flag_of(info)
        name = shown(one)
        if one["kind"] == "switch":
            value = value is not name.startswith("--no-")
        elif mark.parse is not None:
            value = mark.parse(value if isinstance(value, list) else [value], name)
        elif isinstance(value, str):
            if mark.allows_code and _names_code(value):
                fields["allow_code"] = True
            value = _number(value, info.annotation)
        *above, last = one["field"].split(".")
        place = fields
        for part in above:
            place = place.setdefault(part, {})
        place[last] = value
    return fields


def _number(text: str, kind: Any) -> str | int | float:
    """The number that a text is, where its field holds numbers only; else the text, for the configuration to judge."""
    parts = set(get_args(kind)) - {type(None)} or {kind}
    with suppress(ValueError):
        return int(text) if parts == {int} else float(text) if parts == {float} else text
    return text


def _names_code(arch: str) -> bool:
    from deploykit.models.build import SOURCES

    source, colon, _ = arch.partition(":")
    return bool(colon) and source not in SOURCES[:3]


def flags_of(parameters: list[Parameter]) -> dict[str, str]:
    """The flag of each field by its dotted name, for messages."""
    return {one["field"]: shown(one) for one in parameters if "field" in one}


def shown(one: Parameter) -> str:
    """The parameter as the user writes it: its first long flag, or the word of the help."""
    flags = one.get("flags", [])
    return flags[-1].partition("/")[0] if flags else one.get("metavar", one["name"])


def stage_arguments(path: Path, command: str, kind: Any) -> Given:
    """The keyword arguments of the public function ``command`` that a stage file holds, ``config`` built as ``kind``.

    Raises:
        BadInput: the file is no stage of this command, its config does not fit, or names user code that it does not allow.
    """
    from deploykit.config.common import build
    from deploykit.config.stage_file import read_stage

    arguments = read_stage(path, command)
    arguments["config"] = build(kind, arguments.get("config", {}), str(path))
    own.check_stored(arguments["config"], str(path))
    return arguments
