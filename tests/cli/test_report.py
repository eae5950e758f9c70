from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploykit.cli.main import app
from deploykit.reporting import validate, write_report
from tests.reporting import sample


def call(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["report", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def test_pages_are_written_again(tmp_path: Path) -> None:
    write_report(validate(sample.report(4)), tmp_path)
    code, out, _ = call(tmp_path)
    assert code == 0
    assert out.splitlines()[0] == "int8 is 2.41× the speed of fp32 and costs 0.22 pt of top-1."
    assert out.splitlines()[1] == f"wrote {tmp_path / 'report.html'}"
    code, out, _ = call(tmp_path / "report.json", "--json")
    assert json.loads(out)["pick"] == "int8"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ("", "it is empty"),
        ('{"schema": "deploykit.report/2"', "it is no JSON"),
        ('{"schema": "deploykit.report/9"}', "made by a newer deploykit"),
        ('{"schema": "deploykit.report/2", "created": "", "variants": []}', "variants: got []"),
    ],
)
def test_reports_that_cannot_be_read_are_exit_2(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    code, out, err = call(tmp_path)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "report.html").exists()


def test_several_reports_need_a_place(tmp_path: Path) -> None:
    write_report(validate(sample.report(2)), tmp_path)
    code, _, err = call(tmp_path, tmp_path)
    assert code == 2
    assert "Name a folder with -o" in err
