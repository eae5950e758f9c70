from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploykit.cli.main import app


def call(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def test_one_json_object_and_nothing_else(tiny_model: Path, digits_npz: Path) -> None:
    code, out, _ = call(tiny_model, f"again={tiny_model}", "--data", digits_npz, "--threads", 1, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["schema"], found["status"], found["baseline"]) == ("deploykit.evaluate/1", "ok", "tiny")
    assert found["variants"][1]["accuracy"]["agreement"] == 1


def test_a_table_for_people_and_a_folder(tiny_model: Path, digits_npz: Path, tmp_path: Path) -> None:
    code, out, err = call(tiny_model, "--data", digits_npz, "--threads", 1, "-o", tmp_path / "out", "--images", 20)
    assert code == 0, err
    assert out.splitlines()[0] == "20 images of digits.npz (test), 95 % intervals"
    assert out.splitlines()[1].split()[:3] == ["variant", "target", "top-1"]
    assert out.splitlines()[-1].endswith("report.html")
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "digits"], "missing argument ARTIFACT"),
        (["MODEL"], "evaluate needs data. Name it: --data"),
        (["MODEL", "--data", "digits", "--batch", "0"], "batch: got 0, expected greater than or equal to 1"),
        (["MODEL", "--data", "digits", "--split", "all"], "split: got 'all', expected 'train', 'select' or 'test'"),
        (["MODEL", "--data", "digits", "--ci-level", "95"], "--ci-level: got 95.0, expected less than 1"),
        (["MODEL", "--data", "digits", "--baseline", "nobody"], "unknown baseline 'nobody'"),
        (["README.nowhere", "--data", "digits"], "README.nowhere"),
    ],
)
def test_wrong_use_is_exit_2_and_one_line(arguments: list[str], message: str, tiny_model: Path) -> None:
    code, out, err = call(*[str(tiny_model) if one == "MODEL" else one for one in arguments], "--quiet")
    assert code == 2
    assert out == ""
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_stored_stage_runs_alone(tiny_model: Path, digits_npz: Path, tmp_path: Path) -> None:
    from deploykit.config.evaluate import EvaluateConfig
    from deploykit.config.stage_file import write_stage

    config = EvaluateConfig(data=str(digits_npz), threads=1)
    arguments = {"artifacts": [f"a={tiny_model}"], "output": str(tmp_path / "out"), "config": config.plain()}
    write_stage(tmp_path / "stage.yaml", "evaluate", arguments, ("artifacts", "output"))
    code, _, err = call("--config", tmp_path / "stage.yaml")
    assert code == 0, err
    assert (tmp_path / "out" / "report.json").is_file()
    arguments["config"] = EvaluateConfig(data=str(digits_npz), metrics=("os:getcwd",)).plain()
    write_stage(tmp_path / "code.yaml", "evaluate", arguments, ("artifacts", "output"))
    code, _, err = call("--config", tmp_path / "code.yaml")
    assert code == 2
    assert "names Python code: os:getcwd" in err
