"""``deploykit``: wires one file per command. Nothing heavy may be imported here or at the top of a command's file."""

from __future__ import annotations

import importlib
import sys

import typer

from deploykit._version import __version__

COMMANDS = (
    "run",
    "init",
    "train",
    "export",
    "verify",
    "evaluate",
    "benchmark",
    "report",
    "predict",
    "inspect",
    "doctor",
    "cache",
)

app = typer.Typer(
    name="deploykit",
    help="Take a trained image CNN to the fastest engine that still answers right, and show what it costs.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
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


for _name in COMMANDS:
    app.command(name=_name)(importlib.import_module(f"deploykit.cli.{_name}").command)


def main() -> None:
    """The console script; wrong use ends with exit code 2, an interrupt with 130."""
    try:
        app()
    except KeyboardInterrupt:
        print("deploykit: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
