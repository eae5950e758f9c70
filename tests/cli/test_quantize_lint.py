from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from typer.testing import CliRunner

from deploykit.base import environment
from deploykit.cli.main import app
from tests.quantization.graphs_for_tests import residual_net
from tests.quantization.qdq.test_dialects import quantized


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("lint")
    made = {target: folder / f"{target}.onnx" for target in ("ort-cpu", "tensorrt")}
    for target, path in made.items():
        onnx.save(quantized(residual_net(), target), path)
    return {target: str(path) for target, path in made.items()}


def lint(*arguments: str):
    return CliRunner().invoke(app, ["quantize", "--lint", *arguments])


def test_nothing_to_mend_is_exit_0(files: dict[str, str]) -> None:
    done = lint(files["tensorrt"], "--target", "tensorrt")
    assert done.exit_code == 0, done.stderr
    assert "nothing to mend for tensorrt" in done.stdout


def test_notes_alone_are_exit_0(files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "isa", lambda: "vnni")
    done = lint(files["tensorrt"], "--target", "ort-cpu", "--json")
    assert done.exit_code == 0, done.stderr
    fields = json.loads(done.stdout)
    assert (fields["schema"], fields["status"], fields["ok"]) == ("deploykit.quantize/1", "ok", True)
    assert fields["findings"]
    assert all(set(one) == {"code", "breaks", "node", "message", "mend"} for one in fields["findings"])


def test_what_breaks_the_target_is_exit_1(files: dict[str, str]) -> None:
    done = lint(files["ort-cpu"], "--target", "tensorrt")
    assert done.exit_code == 1
    assert "breaks zero-point" in done.stdout
    as_json = lint(files["ort-cpu"], "--target", "tensorrt", "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["status"] == "failed"
    assert not list(Path(files["ort-cpu"]).parent.glob("*.json"))  # judging writes nothing


def test_a_missing_file_is_exit_2(tmp_path: Path) -> None:
    done = lint(str(tmp_path / "gone.onnx"), "--target", "tensorrt")
    assert done.exit_code == 2
    assert "gone.onnx does not exist" in done.stderr
    assert lint().exit_code == 2
