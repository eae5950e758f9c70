from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploykit.cli.main import app

QUICK = ["--exporter", "torchscript", "--opset", "17"]


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(tiny_model, tmp_path / "model.pt"))


def test_json_is_one_object_and_messages_go_to_stderr(model: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(model), *QUICK, "--json"])
    assert done.exit_code == 0
    fields = json.loads(done.stdout)
    assert fields["schema"] == "deploykit.export/1"
    assert fields["status"] == "ok"
    assert fields["verified_on"] == "samples"
    assert fields["parity"]["ok"]
    assert Path(fields["output"]).is_file()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--batch", "0"], "batch"),
        (["--batch", "many"], "batch"),
        (["--opset", "5"], "opset: got 5"),
        (["-o", "nowhere/x.onnx"], "the folder nowhere does not exist"),
        (["--data", "no/such/place"], "no/such/place"),
    ],
)
def test_bad_use_is_exit_2_with_one_line(model: Path, arguments: list[str], line: str) -> None:
    done = CliRunner().invoke(app, ["export", str(model), *QUICK, *arguments])
    assert done.exit_code == 2
    assert line in done.stderr
    assert "Traceback" not in done.stderr
    assert not model.with_name("model.onnx").exists()


def test_a_missing_model_argument_is_named() -> None:
    done = CliRunner().invoke(app, ["export"])
    assert done.exit_code == 2
    assert "missing argument MODEL" in done.stderr


def test_a_fixed_batch_and_a_stored_stage(model: Path) -> None:
    from deploykit.config.export import ExportConfig
    from deploykit.config.stage_file import write_stage

    stage = model.with_name("stage.yaml")
    config = ExportConfig(exporter="torchscript", opset=17, batch=2)
    arguments = {"model": str(model), "output": str(model.with_name("two.onnx")), "config": config.plain()}
    write_stage(stage, "export", arguments, ("model", "output"))
    done = CliRunner().invoke(app, ["export", "--config", str(stage), "--json"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["batch"] == 2
