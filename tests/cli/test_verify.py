from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploykit.cli.main import app


@pytest.fixture(scope="module")
def files(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    model = Path(shutil.copy(tiny_model, tmp_path_factory.mktemp("cli") / "model.pt"))
    done = CliRunner().invoke(app, ["export", str(model), "--exporter", "torchscript", "--opset", "17"])
    assert done.exit_code == 0, done.stderr
    return str(model), str(model.with_name("model.onnx"))


def faulty(path: str) -> str:
    import numpy as np
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    tensor = next(one for one in model.graph.initializer if one.name == "fc.weight")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[::-1] * np.float32(1), tensor.name))
    target = path.replace("model.onnx", "faulty.onnx")
    onnx.save(model, target)
    return target


def test_parity_is_exit_0(files: tuple[str, str]) -> None:
    done = CliRunner().invoke(app, ["verify", *files, "--json"])
    assert done.exit_code == 0, done.stderr
    fields = json.loads(done.stdout)
    assert (fields["schema"], fields["status"]) == ("deploykit.verify/1", "ok")
    assert fields["parity"]["ok"]
    assert fields["bisect"] is None


def test_no_parity_is_exit_1_with_the_worst_pictures_and_the_layer(files: tuple[str, str]) -> None:
    bad = faulty(files[1])
    done = CliRunner().invoke(app, ["verify", files[0], bad, "--bisect"])
    assert done.exit_code == 1
    assert ": FAILED (fp32" in done.stdout
    assert "worst: picture" in done.stdout
    assert "they part at fc/Gemm (Gemm of module fc)" in done.stdout
    as_json = CliRunner().invoke(app, ["verify", files[0], bad, "--json", "--batch", "1", "--batch", "4"])
    assert as_json.exit_code == 1
    fields = json.loads(as_json.stdout)
    assert fields["status"] == "failed"
    assert [one["batch"] for one in fields["parity"]["by_batch"]] == [1, 4]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--batch", "0"], "batch"),
        (["--precision", "fp61"], "precision: got 'fp61'"),
        (["--split", "middle"], "split: got 'middle'"),
        (["--images", "0"], "images: got 0"),
    ],
)
def test_bad_use_is_exit_2_with_one_line(files: tuple[str, str], arguments: list[str], line: str) -> None:
    done = CliRunner().invoke(app, ["verify", *files, *arguments])
    assert done.exit_code == 2
    assert line in done.stderr


def test_a_missing_argument_is_named(files: tuple[str, str]) -> None:
    done = CliRunner().invoke(app, ["verify", files[0]])
    assert done.exit_code == 2
    assert "missing argument CANDIDATE" in done.stderr
