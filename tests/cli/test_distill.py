from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
SMALL = "deploykit:resnet:depth=8,widths=[8, 8, 16],stem_stride=2"


def answer(words: list[object], capfd: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    from deploykit.cli.main import app

    with pytest.raises(SystemExit) as ended:
        app(["distill", *map(str, words)])
    out, err = capfd.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


def test_the_options_reach_the_file(
    tmp_path: Path, digits_npz: Path, tiny_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s.pt"
    words: list[object] = ["--arch", SMALL, "--teacher", f"big={tiny_model}", "--data", digits_npz, "-o", out]
    words += ["--loss", "dkd", "--beta", 2, "--temperature", 3, "--epochs", 1, "--batch", 32, "--threads", 1]
    words += [
        "--augment",
        "shift_px=2",
        "--ema",
        0.9,
        "--features",
        "attention",
        "--layer",
        "layer2",
        "--json",
        "--quiet",
    ]
    code, text, err = answer(words, capfd)
    assert code == 0, err
    told = json.loads(text)
    assert told["schema"] == "deploykit.distill/1"
    assert told["teachers"][0]["name"] == "big"
    stored = json.loads((tmp_path / "s.pt.manifest.json").read_text())["config"]
    assert (stored["loss"], stored["beta"], stored["temperature"]) == ("dkd", 2.0, 3.0)
    assert (stored["features"], stored["layers"], stored["augment"]["shift_px"]) == ("attention", ["layer2"], 2)
    assert stored["teachers"] == ["big=tiny.pt"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["s.pt", "--data", "digits"], "missing argument --teacher"),
        (["s.pt", "--teacher", "t.pt"], "missing argument --data"),
        (["--teacher", "t.pt", "--data", "digits"], "no student; expected a model file, or --arch. Try --arch auto."),
        (
            ["s.pt", "--teacher", "t.pt", "--data", "digits", "--alpha", "2"],
            "alpha: got 2.0, expected less than or equal",
        ),
        (
            ["s.pt", "--teacher", "t.pt", "--data", "digits", "--combine", "mean"],
            "combine: got 'mean', expected 'average'",
        ),
        (["s.pt", "--teacher", "t@ortcpu", "--data", "digits"], "unknown target 'ortcpu'"),
    ],
)
def test_wrong_use_is_one_line(capfd: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    code, _, err = answer([*words, "--quiet"], capfd)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_a_stored_stage(tmp_path: Path, digits_npz: Path, tiny_model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from deploykit.config.distill import DistillConfig
    from deploykit.config.stage_file import write_stage

    fields = {"data": str(digits_npz), "teachers": [str(tiny_model)], "epochs": 1, "batch": 64, "threads": 1}
    plain = DistillConfig.model_validate(fields).plain()
    arguments = {"model": str(tiny_model), "output": str(tmp_path / "m.pt"), "config": plain}
    write_stage(tmp_path / "distill.yaml", "distill", arguments, ("model", "output"))
    code, out, err = answer(["--config", tmp_path / "distill.yaml", "--quiet", "--json"], capfd)
    assert code == 0, err
    assert json.loads(out)["made"] is True


@pytest.mark.slow
@pytest.mark.parametrize("view", ["same", "clean"])
def test_two_processes_distil_as_one_does(tmp_path: Path, digits_npz: Path, tiny_model: Path, view: str) -> None:
    words = ["--arch", SMALL, "--teacher", tiny_model, "--data", digits_npz, "--epochs", 2, "--batch", 32, "--lr", 0.02]
    words += ["--view", view, "--threads", 1, "--json", "--seed", 3]
    told = {}
    for name, launcher in (("one", ()), ("two", LAUNCHER)):
        command = [
            sys.executable,
            *launcher,
            "-m",
            "deploykit.cli.main",
            "distill",
            *map(str, words),
            "-o",
            f"{name}.pt",
        ]
        place = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        env = {**os.environ, "PYTHONPATH": place, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=480)
        assert done.returncode == 0, done.stderr
        told[name] = json.loads(done.stdout)
        assert done.stderr.count("epoch 1/2") == 1
    assert told["two"]["processes"] == 2
    assert told["two"]["loss_train"] == pytest.approx(told["one"]["loss_train"], rel=0.15)
