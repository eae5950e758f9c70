"""``deploykit``: the group of commands. Only the command that is asked for is made, from ``flags.json``."""

from __future__ import annotations

import re
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from deploykit._version import __version__
from deploykit.base.errors import nearest
from deploykit.cli.flags import SETTINGS, Given, read_flags, typer_command

COMMANDS = read_flags()
_CLICK_ERROR: Any = typer.BadParameter.__mro__[2]  # Typer keeps Click inside itself or beside it, by version


class Commands(TyperGroup):
    """The group of commands: makes a command when it is asked for, and says errors in one line."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The Click command ``cmd_name``, or None where there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        described = COMMANDS[cmd_name]

        def run(given: Given) -> None:
            from deploykit.cli.call import call

            call(cmd_name, described["parameters"], given)

        return typer_command(cmd_name, described, run)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first_sentence(one["help"])) for name, one in COMMANDS.items()])

    def main(
        self,
        args: Any = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and end with the exit code: wrong use is 2 with one line, an interrupt 130."""
        words = list(sys.argv[1:] if args is None else args) or ["--help"]
        try:
            if not words[0].startswith("-") and words[0] not in COMMANDS:  # before Typer loads what it parses with
                close = nearest(words[0], COMMANDS)
                raise _CLICK_ERROR(f"unknown command {words[0]!r}" + (f", did you mean {close!r}?" if close else "."))
            name = prog_name or "deploykit"
            if words[0] in COMMANDS:  # at once: Typer would import pydantic for the group's own options
                code = self.get_command(None, words[0]).main(words[1:], f"{name} {words[0]}", standalone_mode=False)
            else:
                code = super().main(words, name, complete_var, False, windows_expand_args=windows_expand_args, **extra)
        except _CLICK_ERROR as error:
            code = _wrong_use(error, "--json" in words)
        except (typer.Abort, KeyboardInterrupt):
            print("deploykit: interrupted", file=sys.stderr)
            code = 130
        code = code if isinstance(code, int) else 0
        if standalone_mode:
            sys.exit(code)
        return code


def _first_sentence(help: str) -> str:
    return re.split(r"(?<=\.)\s|;", help, maxsplit=1)[0].removesuffix(".") + "."


def _wrong_use(error: Any, as_json: bool) -> int:
    ctx = getattr(error, "ctx", None)
    path = ctx.command_path if ctx is not None else "deploykit"
    line = " ".join(error.format_message().split()).rstrip(".")
    line = line[:1].lower() + line[1:] + ("" if line.endswith("?") else ".") + f" See {path} --help."
    print(f"{path}: {line}", file=sys.stderr)
    if as_json:
        from deploykit.cli.runtime import print_json

        print_json(path.rpartition(" ")[2], "bad_input", {"error": line, "exit_code": 2})
    return 2


app = typer.Typer(
    cls=Commands,
    name="deploykit",
    help="Take a trained image CNN to the fastest engine that still answers right, and show what it costs.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=SETTINGS,
)


def _show_version(value: bool) -> None:
    if value:
        print(f"deploykit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    pass


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
