"""The flags of every command are a golden set: ``pytest tests/cli/test_help_golden.py --update-golden`` after a change."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploykit.cli.flags import told
from deploykit.cli.main import COMMANDS, app

GOLDEN = Path(__file__).with_name("golden")


def described(command: str) -> str:
    """Arguments and options as ``flags.json`` has them, so that no Typer version changes the text."""
    lines = [f"deploykit {command}", *COMMANDS[command]["help"].splitlines()]
    panel: str | None = ""
    for one in COMMANDS[command]["parameters"]:
        if one.get("panel") != panel:
            panel = one.get("panel")
            lines += ["", *([] if panel is None else [f"{panel}:"])]
        name = ", ".join(one.get("flags", []))
        lines += [" ".join(filter(None, (name, one.get("metavar")))), f"    {told(one)}"]
        assert one["help"].endswith((".", "…")), f"{command}: {one['name']} has no sentence"
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
def test_help_is_shown_and_names_every_flag_and_panel(command: str) -> None:
    done = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.stderr
    parameters = COMMANDS[command]["parameters"]
    flags = [flag for one in parameters for names in one.get("flags", []) for flag in names.split("/")]
    assert not [flag for flag in flags if f"{flag}" not in done.stdout]
    assert not [one["panel"] for one in parameters if "panel" in one and f"\n{one['panel']}:\n" not in done.stdout]


def test_root_help_lists_commands_with_their_own_first_sentence() -> None:
    done = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in done.stdout
    assert "Train or fine-tune a classifier.\n" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_common_options_mean_the_same_everywhere(command: str) -> None:
    shown, reference = (
        {one["flags"][-1]: one for one in COMMANDS[name]["parameters"] if "flags" in one}
        for name in (command, "export")
    )
    for flag in ("--quiet", "--debug", "--json"):
        assert shown[flag] == reference[flag]
