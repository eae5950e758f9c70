"""``deploykit predict`` on a real model and real digits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploykit.cli.main import app


def run(*words: object):
    return CliRunner().invoke(app, ["predict", *map(str, words)])


def test_text(tiny_model: Path, image_folder: Path) -> None:
    result = run(tiny_model, image_folder, "--top", 1)
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stdout.splitlines() if ".png: " in line]
    assert len(lines) == 40
    digit = {"zero": "0", "one": "1", "two": "2", "three": "3"}
    right = sum(digit[Path(line.split(": ")[0]).parent.name] == line.split(": ")[1].split()[0] for line in lines)
    assert right >= 32


def test_json_is_one_object(tiny_model: Path, image_folder: Path) -> None:
    result = run(tiny_model, image_folder / "two" / "00.png", "--json", "--top", 3)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["schema"], found["status"], found["target"]) == ("deploykit.predict/1", "ok", "torch-eager")
    top = found["predictions"][0]["top"]
    assert [set(one) for one in top] == [{"class", "index", "probability"}] * 3
    assert top[0]["probability"] >= top[1]["probability"]


def test_annotate(tiny_model: Path, image_folder: Path, tmp_path: Path) -> None:
    words = (tiny_model, image_folder / "one", "--annotate", tmp_path / "out")
    assert run(*words).exit_code == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 10
    again = run(*words)
    assert again.exit_code == 2
    assert "pass --force" in again.stderr
    assert run(*words, "--force").exit_code == 0


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("none.pt", "x.png"), "none.pt does not exist"),
        (("{model}", "none.png"), "the picture none.png does not exist"),
        (("{model}", "{folder}", "--top", "0"), "top: got 0, expected greater than or equal to 1"),
        (("{model}",), "missing argument"),
    ],
)
def test_wrong_use(tiny_model: Path, image_folder: Path, words: tuple[str, ...], text: str) -> None:
    result = run(*[word.format(model=tiny_model, folder=image_folder) for word in words])
    assert result.exit_code == 2
    assert text in result.stderr.lower()
    assert "Traceback" not in result.output
