"""A command that is killed between its output and the manifest goes on when it is run again, without --force."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploykit.base.artifact import is_unmodified, read_manifest
from deploykit.cli.main import app

KILLED = """
import os, signal, sys
whole = os.replace
def replace(source, target, **extra):
    whole(source, target, **extra)
    if os.path.abspath(target) == os.path.abspath(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace
from deploykit.cli.main import app
app(sys.argv[2:])
"""


def killed_at(place: str, *words: str) -> subprocess.CompletedProcess[str]:
    """``deploykit WORDS`` in a process that is killed as soon as it has put the file ``place`` there."""
    return subprocess.run([sys.executable, "-c", KILLED, place, *words], capture_output=True, text=True, timeout=240)


def commands(model: Path, onnx: Path, data: Path) -> dict[str, list[str]]:
    train = ["--arch", "deploykit:resnet", "--kwarg", "depth=8,widths=[8,8,16],stem_stride=2", "--threads", "1"]
    return {
        "train": ["train", *train, "--data", str(data), "--epochs", "1", "--batch", "32", "-o", "out.pt"],
        "prune": ["prune", str(model), "--macs", "0.5", "-o", "out.pt"],
        "build": ["build", str(onnx), "--target", "tensorrt-rtx", "-o", "out.engine"],
    }


@pytest.mark.parametrize("command", ["train", "prune", "build"])
def test_a_killed_command_goes_on(
    command: str,
    tmp_path: Path,
    tiny_model: Path,
    tiny_onnx: Path,
    digits_npz: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = commands(tiny_model, tiny_onnx, digits_npz)[command]
    output = tmp_path / words[-1]
    killed = killed_at(output.name, *words)
    assert killed.returncode == -9, killed.stderr
    assert output.exists()
    assert read_manifest(output) is None
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 0, again.stderr
    manifest = read_manifest(output)
    assert manifest is not None
    assert is_unmodified(output, manifest)
    assert not [one.name for one in tmp_path.iterdir() if one.name.startswith(".")]


@pytest.mark.parametrize(
    "words",
    [
        ["prune", "m.pt", "--macs", "0.5", "-o", "m.pt"],
        ["distill", "m.pt", "--teacher", "n.pt", "--data", "digits", "-o", "./m.pt"],
        ["distill", "n.pt", "--teacher", "m.pt@torch-eager", "--data", "digits", "-o", "m.pt"],
        ["train", "--weights", "m.pt", "--data", "digits", "-o", "m.pt"],
        ["export", "m.onnx", "--precision", "fp16", "-o", "m.onnx"],
        ["quantize", "m.onnx", "--data", "digits", "-o", "m.onnx"],
        ["quantize", "m.pt", "--method", "qat", "--data", "digits", "-o", "m.pt"],
        ["build", "m.onnx", "--target", "ort-cpu", "-o", "m.onnx"],
    ],
)
def test_no_command_overwrites_its_input(
    words: list[str], tmp_path: Path, tiny_model: Path, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, source in (("m.pt", tiny_model), ("n.pt", tiny_model), ("m.onnx", tiny_onnx)):
        Path(name).write_bytes(source.read_bytes())
    before = Path(words[-1]).read_bytes()
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert f"the output {Path(words[-1])} is the input. Name another file with -o." in done.stderr
    assert Path(words[-1]).read_bytes() == before


def test_a_build_that_ends_before_its_attachments_is_made_again(
    tmp_path: Path, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deploykit.base.artifact import attachments_path
    from deploykit.building import tensorrt_plan as build_plan
    from deploykit.commands.build import build
    from deploykit.config.build import BuildConfig

    output, config = tmp_path / "out.engine", BuildConfig(target="tensorrt-rtx")
    with monkeypatch.context() as patch:
        patch.setattr(build_plan, "_attach_layers", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build(tiny_onnx, output, config)
    assert build(tiny_onnx, output, config).made
    assert attachments_path(output).is_file()
    manifest = read_manifest(output)
    assert manifest is not None
    assert manifest.stage == "build"
    assert not build(tiny_onnx, output, config).made
