"""The flags of every command are a golden set: ``pytest tests/cli/test_help_golden.py --update-golden`` after a change."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
from typer.testing import CliRunner

from deploykit.cli.main import COMMANDS, app

GOLDEN = Path(__file__).with_name("golden")


def type_text(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("pathlib.", "")


def described(command: str) -> str:
    """Arguments and options from the function's signature, so that no Typer version changes the text."""
    function = importlib.import_module(f"deploykit.cli.{command}").command
    hints = get_type_hints(function, include_extras=True)
    lines = [f"deploykit {command}", *inspect.cleandoc(function.__doc__ or "").splitlines(), ""]
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints[name]
        assert get_origin(hint) is Annotated, f"{command}: {name} needs Annotated[…, typer.Option(help=…)]"
        kind, info = get_args(hint)[:2]
        declared = [text for text in (info.default, *(info.param_decls or ())) if isinstance(text, str)]
        option = type(info).__name__ == "OptionInfo"
        default_name = f"--{name.replace('_', '-')}" if option else name.upper()
        default = parameter.default
        required = default is inspect.Parameter.empty
        assert info.help, f"{command}: {name} has no help"
        shown = "required" if required else f"default {default.as_posix() if isinstance(default, Path) else default!r}"
        lines += [f"{', '.join(declared) or default_name}  {type_text(kind)}  {shown}", f"    {info.help}"]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_flags_are_as_agreed(command: str, request: pytest.FixtureRequest) -> None:
    path = GOLDEN / f"{command}.txt"
    text = described(command)
    if request.config.getoption("--update-golden"):
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.is_file(), f"no golden file for {command}: run pytest {__file__} --update-golden"
    assert text == path.read_text(encoding="utf-8"), (
        f"the flags of {command} changed; if that is wanted: pytest tests/cli/test_help_golden.py --update-golden"
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_shown_and_names_every_flag(command: str) -> None:
    done = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.stderr
    first = [line.split("  ")[0] for line in described(command).splitlines() if line.startswith("-")]
    flags = [flag for names in first for flag in names.replace("/", ",").replace(" ", "").split(",")]
    missing = [flag for flag in flags if flag.startswith("--") and flag not in done.stdout]
    assert not missing


def test_root_help_lists_commands_with_their_own_first_sentence() -> None:
    done = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_common_options_mean_the_same_everywhere(command: str) -> None:
    text = described(command)
    for flag in ("--quiet", "--debug", "--json"):
        assert f"\n{flag}  bool  default False" in text
