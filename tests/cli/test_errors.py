"""Wrong use ends with exit code 2 and one line; every code of the table is reached through the real frame."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from deploykit.base import errors
from deploykit.base.command_result import Result
from deploykit.cli.main import COMMANDS, app
from deploykit.cli.runtime import running


def cli(*words: str):
    return CliRunner().invoke(app, list(words))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["exprot"], "deploykit: unknown command 'exprot', did you mean 'export'? See deploykit --help."),
        (["frobnicate"], "deploykit: unknown command 'frobnicate'. See deploykit --help."),
        (["--bla"], "deploykit: no such option: --bla. See deploykit --help."),
        (["run"], "deploykit run: missing argument 'recipe'. See deploykit run --help."),
    ],
)
def test_wrong_use_is_one_line(words: list[str], line: str) -> None:
    done = cli(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.rstrip("\n").lower() == line.lower()


def test_wrong_flags_name_the_near_ones() -> None:
    done = cli("export", "--opsett", "17")
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "no such option: --opsett" in done.stderr
    assert "--opset" in done.stderr.partition("possible options")[2] or "--opset" in done.stderr


def test_a_value_of_the_wrong_type_is_one_line() -> None:
    done = cli("export", "x.pt", "--opset", "many")
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "--opset" in done.stderr


def test_json_says_wrong_use_too() -> None:
    done = cli("run", "--json", "--bla")
    assert done.exit_code == 2
    answer = json.loads(done.stdout)
    assert (answer["schema"], answer["status"], answer["exit_code"]) == ("deploykit.run/1", "bad_input", 2)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_wrong_flags_in_one_line(command: str) -> None:
    done = cli(command, "--no-such-flag")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"deploykit {command}: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (errors.AnswerNo("no"), 1, "no"),
        (errors.BadInput("bad", got=3, expected="4", fix="Mend it."), 2, "bad; got 3; expected 4. Mend it."),
        (errors.CannotTell("open"), 3, "open"),
        (errors.Unavailable("no GPU", fix="Buy one."), 4, "no GPU. Buy one."),
        (errors.SystemTrouble("disk"), 5, "disk"),
        (OSError(28, "No space left on device"), 5, "deploykit export: the work stopped: the disk is full"),
        (FileNotFoundError(2, "No such file", "x.pt"), 2, "x.pt does not exist"),
        (PermissionError(13, "Permission denied", "x.pt"), 2, "no permission for x.pt"),
        (MemoryError("big"), 5, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 5, "out of memory: DefaultCPU"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("division by zero"), 70, "this is a bug of deploykit: ZeroDivisionError"),
    ],
)
def test_each_error_has_its_code_and_one_line(
    error: BaseException, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import typer

    with pytest.raises(typer.Exit) as ended, running("export", as_json=True):
        raise error
    shown = capsys.readouterr()
    assert ended.value.exit_code == code
    assert shown.err.startswith("deploykit export: ")
    assert shown.err.count("\n") == 1
    assert text in shown.err
    answer = json.loads(shown.out)
    assert answer["schema"] == "deploykit.export/1"
    assert answer["exit_code"] == code


@pytest.mark.parametrize(
    ("error", "code"), [(errors.BadInput("odd"), 2), (errors.Unavailable("odd"), 4), (ValueError("odd"), 70)]
)
def test_debug_shows_the_traceback_before_the_line_and_keeps_the_exit_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as end, running("export", debug=True, as_json=True):
        raise error
    told = capsys.readouterr()
    assert end.value.exit_code == code
    assert "Traceback (most recent call last)" in told.err
    assert told.err.splitlines()[-1].startswith("deploykit export: ")
    assert json.loads(told.out)["exit_code"] == code


class Other(Result):
    def to_dict(self) -> dict[str, object]:
        return {"schema": "other/1", "status": "odd", "file": "x"}

    def summary(self) -> str:
        return ""


def test_no_field_takes_the_place_of_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), running("inspect", as_json=True) as run:
        run.finish(Other())
    assert json.loads(capsys.readouterr().out) == {"schema": "deploykit.inspect/1", "status": "ok", "file": "x"}


def test_a_value_out_of_range_names_the_command_once() -> None:
    done = cli("verify", "a.pt", "b.onnx", "--images", "0")
    assert done.exit_code == 2
    assert done.stderr == "deploykit verify: --images: got 0, expected greater than or equal to 1\n"


def test_a_missing_recipe_through_the_whole_frame(tmp_path: Path) -> None:
    done = cli("run", str(tmp_path / "none.yaml"))
    assert done.exit_code == 2
    assert "there is no recipe" in done.stderr
