"""``make generate``: writes ``flags.json`` and ``deploykit/__init__.pyi`` from the configurations.

Both are committed, so that ``--help`` needs no pydantic and type checkers see each option; a test compares them with the
configurations.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

import deploykit
from deploykit.cli import stub
from deploykit.cli.flags import FILE, GENERAL
from deploykit.config.command import ALWAYS, FORCE, STORED, Argument, Command, command_of
from deploykit.config.common import Config
from deploykit.config.flag import Flag, Panel, flag_of, plain_type

_CALLED = {int: "INT", float: "NUMBER", str: "TEXT"}


def flags_text() -> str:
    """``flags.json``: of each command its help and parameters, see :mod:`deploykit.cli.flags`."""
    commands = []
    for name in (one for names in deploykit.PUBLIC.values() for one in names if find_spec(f"deploykit.config.{one}")):
        command = command_of(name)
        lines = ",\n".join(f"    {_json(one)}" for one in parameters(command))
        commands.append(f'  {_json(name)}: {{"help": {_json(command.help)}, "parameters": [\n{lines}\n  ]}}')
    return "{\n" + ",\n".join(commands) + "\n}\n"


def _json(value: Any) -> str:
    if isinstance(value, dict):
        value = {key: one for key, one in value.items() if one is not None and one is not False and one != []}
    return json.dumps(value, ensure_ascii=False)


def parameters(command: Command) -> list[dict[str, object]]:
    """The words and options of a command, see :class:`deploykit.cli.flags.Parameter`."""
    given = [_argument(one, stored=command.stored) for one in command.arguments]
    fields = [*_fields(command.config, stored=command.stored)]
    if command.also is not None:
        fields += _fields(command.also, stored=command.stored, but=command.config)
    fields.sort(key=lambda one: bool(one["flags"]))  # positional ones come first
    shared = [*([STORED] if command.stored else []), *([FORCE] if command.force else []), *ALWAYS]
    general = [{**_argument(one), "panel": GENERAL} for one in shared]
    words = [one for one in (*fields, *given) if not one["flags"]]
    options = [one for one in (*given, *fields) if one["flags"]]
    options.sort(key=lambda one: one["panel"] is not None)
    return [*words, *options, *general]


def _argument(one: Argument, *, stored: bool = False) -> dict[str, object]:
    flags = [part.strip() for part in one.flags.split(",")] if one.flags else []
    positional = not flags
    return {
        "name": one.name,
        "field": None,
        "flags": flags,
        "kind": "list" if one.many else "text" if one.metavar or positional else "switch",
        "metavar": one.metavar or (one.name.upper() if positional else None),
        "help": one.help,
        "panel": None,
        "default": one.default or None,
        "required": positional and one.default is None and not stored,
    }


def _fields(
    config: type[Config], *, stored: bool, but: type[Config] | None = None, inside: str = "", panel: str | None = None
) -> list[dict[str, object]]:
    found = []
    for name, info in _in_order(config):
        panel = next((mark.title for mark in info.metadata if isinstance(mark, Panel)), panel)
        flag = flag_of(info)
        if flag.hidden or (but is not None and name in but.model_fields):
            continue
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, Config) and flag.parse is None:
            found += _fields(kind, stored=stored, inside=f"{inside}{name}.", panel=panel)
        else:
            required = info.is_required() and not stored
            found.append({**_field(f"{inside}{name}", info, flag), "panel": panel, "required": required})
    return found


def _in_order(config: type[Config]) -> list[tuple[str, FieldInfo]]:
    """The fields, those of the class itself before those that it shares with others."""
    depth: dict[str, int] = {}
    for i, kind in enumerate(config.__mro__):
        depth |= dict.fromkeys(vars(kind).get("__annotations__", {}), -i)
    return sorted(config.model_fields.items(), key=lambda one: -depth[one[0]])


def _field(path: str, info: FieldInfo, flag: Flag) -> dict[str, object]:
    name = path.rpartition(".")[2]
    assert info.description, f"{name} has no description"
    many = flag.many if flag.many is not None else get_origin(info.annotation) is tuple and ... in _parts(info)
    switch = info.annotation is bool
    default = None if info.is_required() else info.get_default(call_default_factory=True, validated_data={})
    named = flag.names or "--" + name.replace("_", "-") + (
        "/--no-" + name.replace("_", "-") if switch and default is True else ""
    )
    return {
        "name": path.replace(".", "_"),
        "field": path,
        "flags": [] if flag.positional else [named],
        "old": flag.old or None,
        "kind": "list" if many else "switch" if switch else "text",
        "metavar": None
        if switch
        else flag.metavar or "|".join(flag.choices) or _metavar(plain_type(info.annotation, info.metadata)),
        "help": info.description,
        "default": _shown(default, named, switch=switch),
    }


def _parts(info: FieldInfo) -> tuple[Any, ...]:
    return get_args(info.annotation)


def _metavar(kind: Any) -> str:
    """What stands for a value: its choices, else what its type is called."""
    if get_origin(kind) is Annotated:
        return _metavar(plain_type(get_args(kind)[0], kind.__metadata__))
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    if kind in _CALLED:
        return _CALLED[kind]
    parts = [_metavar(part) for part in get_args(kind) if part not in (type(None), ...)]
    return "|".join(dict.fromkeys(parts))


def _shown(default: Any, named: str, *, switch: bool) -> str | None:
    """The default as the help tells it; None where its description does, or there is nothing to tell."""
    if switch:
        on, _, off = named.partition("/")
        return (on if default else off).removeprefix("--") if off else None
    if isinstance(default, tuple):
        return ", ".join(map(str, default)) or None
    return f"{default}" if isinstance(default, str | int | float) else None


def main() -> None:
    """Write both files."""
    FILE.write_text(flags_text(), encoding="utf-8")
    stub.FILE.write_text(stub.stub_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
