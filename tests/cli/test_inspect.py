"""``deploykit inspect`` as a person and a program see it."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from deploykit.cli.main import app


def test_text_and_json(tiny_model: Path) -> None:
    shown = CliRunner().invoke(app, ["inspect", str(tiny_model), "--layers"])
    assert shown.exit_code == 0, shown.output
    assert "deploykit:resnet" in shown.stdout
    assert "layer1.0.conv1" in shown.stdout
    plain = CliRunner().invoke(app, ["inspect", str(tiny_model), "--json"])
    found = json.loads(plain.stdout)
    assert found["schema"] == "deploykit.inspect/1"
    assert (found["status"], found["kind"], found["params"]) == ("ok", "model", 19_954)


def test_bad_file_is_one_line_and_exit_2(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_text("hello")
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "x.pt"), "--json"])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "it is text" in result.stderr
    assert json.loads(result.stdout)["status"] == "bad_input"
