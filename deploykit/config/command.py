"""What a command takes beside its configuration: the files it works on, and the options that all commands share."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from deploykit.config.common import Config


@dataclass(frozen=True)
class Argument:
    """One argument of a command's function, or of its command line alone.

    Attributes:
        name: of the function's parameter.
        help: one line.
        flags: ``-o, --output``; empty: it is positional.
        metavar: what stands for the value in the help; None: it takes none.
        many: it may be repeated.
        default: as the help shows it; None: it has none, and must be given where it is positional.
        own: only the command line knows it, the function does not take it.
    """

    name: str
    help: str
    flags: str = ""
    metavar: str | None = None
    many: bool = False
    default: str | None = None
    own: bool = False


@dataclass(frozen=True)
class Command:
    """One command: ``deploykit NAME`` and the public function of the same name.

    Attributes:
        help: its first sentence stands in the list of commands.
        config: whose fields are its flags, and the keywords of its function.
        arguments: of the function, before its configuration; then what only the command line knows.
        also: a configuration that is taken instead in one of its modes; what it has more is a flag, too.
        stored: a stage file says it all (``--config FILE``); then no argument has to be given.
        force: it writes files, and can be told to replace those of other makers.
        spread: it may run in several processes (``torchrun``), of which the first one speaks.
    """

    help: str
    config: type[Config]
    arguments: tuple[Argument, ...] = ()
    also: type[Config] | None = None
    stored: bool = False
    force: bool = True
    spread: bool = False


def output(help: str = "Name of the output; default: beside the input.", metavar: str = "PATH") -> Argument:
    """``-o``, which names what is written."""
    return Argument("output", help, "-o, --output", metavar)


STORED = Argument(
    "config", "Run exactly one stored stage (RUN/stages/*.yaml); no other option counts.", "--config", "PATH"
)
FORCE = Argument("force", "Replace an output that deploykit did not make.", "--force")
ALWAYS = (
    Argument("quiet", "Only results and errors.", "-q, --quiet"),
    Argument("debug", "Show the traceback of an error.", "--debug"),
    Argument("json", "Print one JSON object on stdout, and nothing else there.", "--json"),
)


def command_of(name: str) -> Command:
    """The command that ``deploykit.config.NAME`` describes."""
    command: Command = importlib.import_module(f"deploykit.config.{name}").COMMAND
    return command


def field_at(command: Command, path: str) -> FieldInfo:
    """The field of a command's configuration, or of the one that is taken instead, by its dotted name."""
    first, *below = path.split(".")
    own = command.also if command.also is not None and first not in command.config.model_fields else command.config
    info = own.model_fields[first]
    for part in below:
        assert isinstance(info.annotation, type)
        assert issubclass(info.annotation, BaseModel)
        info = info.annotation.model_fields[part]
    return info
