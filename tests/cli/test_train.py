from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from deploykit.commands.train import TrainResult, train
from deploykit.config.train import TrainConfig
from tests.listening import Listening

ROOT = Path(__file__).parents[2]
LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
NET = ["--arch", "deploykit:resnet", "--kwarg", "depth=8,widths=[8,8,16],stem_stride=2", "--threads", "1"]


def start(*words: object, launcher: tuple[str, ...] = (), cwd: Path) -> subprocess.Popen:
    command = [sys.executable, *launcher, "-m", "deploykit.cli.main", "train", *NET, *map(str, words)]
    place = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": place, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*words: object, cwd: Path, launcher: tuple[str, ...] = ()) -> tuple[int, str, str]:
    process = start(*words, cwd=cwd, launcher=LAUNCHER)
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def wait_for(happened: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def in_process(output: Path, data: Path, **fields: Any) -> tuple[TrainResult, list[str]]:
    """The same run as :func:`start` makes, without another process."""
    listening = Listening()
    model = {"arch": "deploykit:resnet", "kwargs": {"depth": 8, "widths": [8, 8, 16], "stem_stride": 2}}
    config = TrainConfig(data=str(data), model=model, threads=1, batch=32, allow_code=True, **fields)
    return train(output, config, progress=listening), listening.said


def test_killed_and_terminated_runs_go_on_to_the_same_bits(tmp_path: Path, digits_npz: Path) -> None:
    words = ["--data", digits_npz, "--epochs", 24, "--batch", 32, "--augment", "shift_px=2,flip=0.1", "--ema", 0.99]
    state = tmp_path / ".model.pt.resume"
    killed = start(*words, cwd=tmp_path)
    wait_for(lambda: state.exists(), killed)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    before = state.stat().st_mtime_ns
    ended = start(*words, cwd=tmp_path)
    wait_for(lambda: state.stat().st_mtime_ns != before, ended)
    ended.send_signal(signal.SIGTERM)
    _, err = ended.communicate(timeout=60)
    assert ended.returncode == 130, err
    assert "going on after epoch" in err
    assert "the state is kept in .model.pt.resume" in err
    assert "interrupted; run the same command again to go on" in err
    fields = {"epochs": 24, "augment": {"shift_px": 2, "flip": 0.1}, "ema": 0.99}
    resumed, said = in_process(tmp_path / "model.pt", digits_npz, **fields)
    assert any(line.startswith("going on after epoch") for line in said)
    assert not state.exists()
    whole, said = in_process(tmp_path / "whole.pt", digits_npz, **fields)
    assert not any(line.startswith("going on after epoch") for line in said)
    for part in ("tensors", "ema"):
        one, two = torch.load(whole.output)[part], torch.load(resumed.output)[part]
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_two_processes_train_as_one_does(tmp_path: Path, digits_npz: Path) -> None:
    code, out, err = run(
        *("--data", digits_npz, "--epochs", 2, "--batch", 32, "--lr", 0.02, "--json", "-o", "two.pt"),
        cwd=tmp_path,
        launcher=LAUNCHER,
    )
    assert code == 0, err
    two = json.loads(out)
    one = in_process(tmp_path / "one.pt", digits_npz, epochs=2, lr=0.02)[0].facts
    assert two["processes"] == 2
    assert two["epochs"] == one["epochs"]
    assert two["loss_train"] == pytest.approx(one["loss_train"], rel=0.1)
    steps = [int(torch.load(tmp_path / f"{n}.pt")["tensors"]["bn1.num_batches_tracked"]) for n in ("one", "two")]
    assert steps[0] == steps[1]
    assert err.count("epoch 1/2") == 1
    assert "the running statistics are process 0's" in err


@pytest.mark.slow
def test_two_processes_are_as_accurate_as_one(tmp_path: Path) -> None:
    """The paired 95 % interval of the difference in accuracy on the digits' test split contains 0."""
    import numpy as np

    from deploykit.data import open_data, prepare
    from deploykit.models import load_model
    from deploykit.stats.paired import score_interval

    words = ["--data", "digits", "--epochs", 12, "--lr", 0.2, "--augment", "shift_px=3"]
    assert run(*words, "-o", "one.pt", cwd=tmp_path)[0] == 0
    assert run(*words, "-o", "two.pt", cwd=tmp_path, launcher=LAUNCHER)[0] == 0
    test = open_data("digits").split("test")
    correct = {}
    for name in ("one", "two"):
        loaded = load_model(tmp_path / f"{name}.pt")
        x = torch.from_numpy(prepare([test.image(i) for i in range(len(test))], loaded.preprocessing))
        with torch.inference_mode():
            correct[name] = np.asarray(loaded.module(x).argmax(1)) == test.labels
    one, two = correct["one"], correct["two"]
    low, high = score_interval(int((one & ~two).sum()), int((two & ~one).sum()), len(test))
    assert low <= 0 <= high
    assert correct["two"].mean() > 0.9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "digits", "--epochs", "0"], "epochs: got 0, expected greater than or equal to 1"),
        (["--data", "digits", "--batch", "0"], "batch: got 0, expected greater than or equal to 1"),
        (["--data", "digits", "--augment", "shift=3"], "unknown key 'augment.shift', did you mean 'shift_px'?"),
        (["--data", "digits", "--augment", "shift_px"], "cannot read --augment 'shift_px'; expected KEY=VALUE"),
        (["--data", "digits", "--mean", "0.5,x"], "expected numbers"),
        (["--data", "digits", "--optimizer", "adam"], "optimizer: got 'adam', expected 'sgd' or 'adamw'"),
        (["--data", "digits", "--sparsify", "l1"], "train: --sparsify: got 'l1', expected 'bn-scale' or 'group-norm'"),
        (["--data", "digits", "--sparsify-strength", "0.1"], "train: sparsify_strength: expected with sparsify"),
        ([], "nothing to train on; expected --data, --recipe or --config. Try --data digits."),
    ],
)
def test_wrong_use_is_one_line(capfd: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    from deploykit.cli.main import app

    with pytest.raises(SystemExit) as ended:
        app(["train", "--quiet", *words])
    assert ended.value.code == 2
    err = capfd.readouterr().err
    assert message in err
    assert err.count("deploykit train:") == 1
    assert err.count("\n") == 1


def test_a_recipes_part_and_what_comes_before_it(
    tmp_path: Path, digits_npz: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from deploykit.cli.main import app

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"version: 1\nname: small\nmodel: {{arch: 'deploykit:resnet', kwargs: {{depth: 8, widths: [8, 8, 8]}}}}\n"
        f"data: '{digits_npz}'\ntrain: {{epochs: 3, batch: 64, threads: 1}}\nvariants: {{fp32: {{target: ort-cpu}}}}\n"
    )
    out = tmp_path / "model.pt"
    with pytest.raises(SystemExit) as ended:
        app(
            [
                "train",
                "--recipe",
                str(recipe),
                "--epochs",
                "1",
                "--kwarg",
                "depth=14",
                "-o",
                str(out),
                "--json",
                "--quiet",
            ]
        )
    assert ended.value.code == 0
    assert json.loads(capfd.readouterr().out)["epochs"] == 1
    stored = torch.load(out)["lineage"][0]["config"]
    assert stored["model"]["kwargs"] == {"depth": 14, "widths": [8, 8, 8]}
    assert stored["batch"] == 64
    assert stored["allow_code"] is False


def test_a_stored_stage(tmp_path: Path, digits_npz: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from deploykit.cli.main import app
    from deploykit.config.stage_file import write_stage
    from deploykit.config.train import TrainConfig

    model = {"arch": "deploykit:resnet", "kwargs": {"depth": 8, "widths": [8, 8, 8]}}
    plain = TrainConfig(data=str(digits_npz), epochs=1, batch=64, threads=1, model=model).plain()
    stage = tmp_path / "train.yaml"
    write_stage(stage, "train", {"output": str(tmp_path / "m.pt"), "config": plain}, ("output",))
    with pytest.raises(SystemExit) as ended:
        app(["train", "--config", str(stage), "--quiet", "--json"])
    assert ended.value.code == 0
    assert json.loads(capfd.readouterr().out)["made"] is True
    assert (tmp_path / "m.pt").exists()
