"""``deploykit``: wires one file per command. Only the file of the command that is asked for is imported."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from deploykit._version import __version__
from deploykit.base.errors import nearest

COMMANDS = {
    "run": "Run a recipe: train, export, verify and measure all its variants.",
    "init": "Write a commented recipe for a model and data.",
    "train": "Train or fine-tune a classifier.",
    "prune": "Remove channels from a model until it fits a budget.",
    "distill": "Train a student to answer as its teachers do.",
    "export": "Export a model to ONNX and verify the file before it is called done.",
    "quantize": "Quantize a model to int8 in its target's dialect, and verify the file.",
    "build": "Build an engine from an ONNX file, and say in its manifest what it is.",
    "verify": "Compare the outputs of two artifacts on the same pictures.",
    "evaluate": "Measure the accuracy of artifacts on the same pictures.",
    "benchmark": "Measure latency, parity and accuracy of artifacts together.",
    "report": "Write the pages of a report again, or compare several reports.",
    "gate": "Judge a report against a policy: pass, fail or cannot tell.",
    "predict": "Name what pictures show, with any artifact.",
    "inspect": "Tell what a file is.",
    "doctor": "Tell what this machine can do, and how to mend what it cannot.",
    "cache": "List and clean stored results.",
}
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
_CLICK_ERROR: Any = typer.BadParameter.__mro__[2]  # Typer keeps Click inside itself or beside it, by version


class Commands(TyperGroup):
    """The group of commands: imports one file when its command is asked for, and says errors in one line."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The Click command of ``deploykit/cli/NAME.py``, or None where there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        one = typer.Typer(
            add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, context_settings=SETTINGS
        )
        one.command(name=cmd_name)(importlib.import_module(f"deploykit.cli.{cmd_name}").command)
        return typer.main.get_command(one)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

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
            code = super().main(
                words, prog_name or "deploykit", complete_var, False, windows_expand_args=windows_expand_args, **extra
            )
        except _CLICK_ERROR as error:
            code = _wrong_use(error, "--json" in words)
        except (typer.Abort, KeyboardInterrupt):
            print("deploykit: interrupted", file=sys.stderr)
            code = 130
        code = code if isinstance(code, int) else 0
        if standalone_mode:
            sys.exit(code)
        return code


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
