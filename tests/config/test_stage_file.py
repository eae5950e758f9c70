"""Stage files: written relative, read back where they lie now."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from deploykit.base.errors import BadInput
from deploykit.cli.call import stage_arguments
from deploykit.cli.own import needed
from deploykit.config.export import ExportConfig
from deploykit.config.stage_file import read_stage, write_stage


def written(folder: Path) -> Path:
    path = folder / "stages" / "fp32.export.yaml"
    path.parent.mkdir(parents=True)
    arguments = {
        "model": folder / "artifacts" / "model=1.pt",
        "output": folder / "artifacts" / "fp32.onnx",
        "specs": [f"a={folder}/artifacts/a.onnx@ort-cuda:use_tf32=0", f"b={folder}/b.pt"],
        "config": ExportConfig(opset=18).plain(),
    }
    write_stage(path, "export", {**arguments, "model": str(arguments["model"])}, ("model", "output", "specs"))
    return path


def test_paths_are_stored_relative_and_found_after_a_move(tmp_path: Path) -> None:
    path = written(tmp_path / "run")
    assert str(tmp_path) not in path.read_text()
    assert path.read_text().startswith("# deploykit export --config fp32.export.yaml\n")
    shutil.move(tmp_path / "run", tmp_path / "moved")
    moved = tmp_path / "moved" / "stages" / "fp32.export.yaml"
    arguments = read_stage(moved, "export")
    assert arguments["model"] == tmp_path / "moved" / "artifacts" / "model=1.pt"
    assert arguments["output"] == tmp_path / "moved" / "artifacts" / "fp32.onnx"
    assert arguments["specs"] == [
        f"a={tmp_path}/moved/artifacts/a.onnx@ort-cuda:use_tf32=0",
        f"b={tmp_path}/moved/b.pt",
    ]


def test_the_configuration_is_checked_when_read(tmp_path: Path) -> None:
    path = written(tmp_path)
    arguments = stage_arguments(path, "export", ExportConfig)
    assert arguments["config"] == ExportConfig(opset=18)
    path.write_text(path.read_text().replace("opset: 18", "opset: 3"))
    with pytest.raises(BadInput, match=r"fp32\.export\.yaml: opset: got 3, expected greater than or equal to 13"):
        stage_arguments(path, "export", ExportConfig)
    path.write_text(path.read_text().replace("opset: 3", "opst: 18"))
    with pytest.raises(BadInput, match="unknown key 'opst', did you mean 'opset'"):
        stage_arguments(path, "export", ExportConfig)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "is no stage file; expected command, paths, arguments. Use one from RUN/stages/."),
        ("a: [", "is no YAML"),
        ("command: export\npaths: []\narguments: 3\n", "is no stage file; expected arguments as a mapping"),
        ("command: train\npaths: []\narguments: {}\n", "is a stage of another command; got train; expected export"),
        ("command: export\npaths: []\narguments: {}\nmore: 1\n", "is no stage file"),
    ],
)
def test_foreign_files_are_one_line(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        read_stage(path, "export")
    assert line in caught.value.line()
    assert "\n" not in caught.value.line()


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        read_stage(tmp_path / "none.yaml", "export")
    (tmp_path / "x.yaml").write_bytes(b"\x89PNG\xff")
    with pytest.raises(BadInput, match="is no YAML"):
        read_stage(tmp_path / "x.yaml", "export")


def test_needed_arguments() -> None:
    assert needed("x", "MODEL") == "x"
    with pytest.raises(BadInput, match=r"missing argument MODEL\. Name MODEL, or a stored stage with --config FILE"):
        needed(None, "MODEL")
