"""From ``flags.json`` to Typer's commands, without a look at any configuration."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import typer
from typer.core import TyperCommand

FILE = Path(__file__).with_name("flags.json")
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
GENERAL = "General"
_KINDS: dict[str, Any] = {"text": str | None, "list": list[str] | None, "switch": bool | None}


Given = dict[str, Any]
"""Value of each parameter by name: a text, texts or a bool, None where it was not given."""


class Parameter(TypedDict):
    """One word or option of a command.

    ``field`` is the dotted name in the command's configuration, left out for what the function takes beside it; ``kind`` is
    text, list or switch; ``old`` is a former flag, which is taken but not shown; a default stands only in the help: what was not given is the configuration's to decide.
    """

    name: str
    kind: str
    help: str
    flags: NotRequired[list[str]]
    old: NotRequired[str]
    field: NotRequired[str]
    metavar: NotRequired[str]
    panel: NotRequired[str]
    default: NotRequired[str]
    required: NotRequired[bool]


class CommandFlags(TypedDict):
    """One command of ``flags.json``."""

    help: str
    parameters: list[Parameter]


def read_flags() -> dict[str, CommandFlags]:
    """Every command by name, in the order of the work."""
    found: dict[str, CommandFlags] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


class _Panelled(TyperCommand):
    """A command whose help lists its options by panels."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        parameters: list[Any] = self.get_params(ctx)
        for parameter in parameters:
            if (record := parameter.get_help_record(ctx)) is None:
                continue
            if parameter.param_type_name == "argument":
                title, record = "Arguments", (parameter.metavar, record[1])
            else:  # --help is Click's own
                title = GENERAL if parameter.name == "help" else parameter.rich_help_panel or "Options"
            panels.setdefault(title, []).append(record)
        for title, records in panels.items():
            with formatter.section(title):
                formatter.write_dl(records)


def typer_command(name: str, described: CommandFlags, call: Callable[[Given], None]) -> Any:
    """The Click command ``name``; what was given reaches ``call`` by the parameters' names, None where it was not."""

    def command(**given: Any) -> None:
        call(given)

    declared = [_declared(one) for one in described["parameters"]]
    declared += [_former(one) for one in described["parameters"] if "old" in one]
    vars(command)["__signature__"] = inspect.Signature(declared)
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(name=name, cls=_Panelled, help=described["help"], context_settings=SETTINGS)(command)
    return typer.main.get_command(app)


def _declared(one: Parameter) -> inspect.Parameter:
    metavar, panel, flags = one.get("metavar"), one.get("panel"), one.get("flags", [])
    if flags:
        info = typer.Option(*flags, help=told(one), metavar=metavar, rich_help_panel=panel, show_default=False)
    else:
        info = typer.Argument(help=told(one), metavar=metavar, show_default=False)
    kind = _KINDS[one["kind"]]
    return inspect.Parameter(
        one["name"],
        inspect.Parameter.KEYWORD_ONLY,
        default=... if one.get("required") else None,
        annotation=Annotated[kind, info],
    )


def _former(one: Parameter) -> inspect.Parameter:
    kind, info = _KINDS[one["kind"]], typer.Option(one["old"], hidden=True)
    name = f"old_{one['name']}"
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, info])


def told(one: Parameter) -> str:
    """The help of a parameter, with its default and whether it may be repeated."""
    notes = [f"default: {one['default']}"] if "default" in one else []
    notes += ["repeatable"] if one["kind"] == "list" and one.get("flags") else []
    notes += ["required"] if one.get("required") and one.get("flags") else []
    return one["help"] + (f"  [{'; '.join(notes)}]" if notes else "")
