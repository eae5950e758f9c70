"""Training on a CUDA GPU: mixed precision, resume, and that the file loads where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploykit.commands.train import train
from deploykit.config.train import TrainConfig

pytestmark = pytest.mark.gpu
NET = {"arch": "deploykit:resnet", "kwargs": {"depth": 8, "widths": [16, 32, 64], "stem_stride": 2}}


def config(data: Path, **fields: Any) -> TrainConfig:
    fields = {"model": NET, "epochs": 20, "batch": 32, "lr": 0.05, "device": "cuda", **fields}
    return TrainConfig(data=str(data), **fields)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_each_precision_learns(tmp_path: Path, digits_npz: Path, precision: str) -> None:
    result = train(tmp_path / "model.pt", config(digits_npz, precision=precision, ema=0.9, clip_norm=1.0))
    assert result.facts["top1_select"] >= 0.6


def test_the_file_runs_on_the_cpu_and_is_fp32(tmp_path: Path, digits_npz: Path) -> None:
    import torch

    from deploykit.models import load_model

    result = train(tmp_path / "model.pt", config(digits_npz, precision="bf16", epochs=1))
    loaded = load_model(result.output)
    assert {p.dtype for p in loaded.module.parameters()} == {torch.float32}
    assert {p.device.type for p in loaded.module.parameters()} == {"cpu"}
    assert torch.isfinite(loaded.module(torch.zeros(2, 3, 32, 32))).all()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_stopped_run_goes_on_where_it_was(run, tmp_path: Path, precision: str) -> None:
    from deploykit.training.resume import ResumeFile
    from tests.training.test_loop import StopAfter

    kept = ResumeFile(tmp_path / "model.pt", "key", {})
    fields = {"epochs": 12, "device": "cuda", "precision": precision, "channels_last": True, "ema": 0.9}
    with pytest.raises(KeyboardInterrupt):
        run(**fields, resume=kept, stop=StopAfter(5))
    assert kept.path.is_file()
    outcome = run(**fields, resume=kept)
    assert len(outcome.course.top1) == 12
    assert outcome.course.images == 12 * round(outcome.course.images / 12)
    assert outcome.course.losses[-1] < 0.7 * outcome.course.losses[0]
    assert {tensor.device.type for tensor in outcome.tensors.values()} == {"cpu"}


def test_channels_last_computes_the_same(run) -> None:
    first, last = (run(epochs=1, device="cuda", channels_last=layout) for layout in (False, True))
    assert first.course.losses[0] == pytest.approx(last.course.losses[0], rel=0.02)


def test_the_command_uses_the_gpu_by_itself(tmp_path: Path, digits_npz: Path) -> None:
    import json
    import subprocess
    import sys

    command = [
        sys.executable,
        "-m",
        "deploykit.cli.main",
        "train",
        "--data",
        str(digits_npz),
        "--epochs",
        "2",
        "--json",
    ]
    command += ["--precision", "fp16", "-o", str(tmp_path / "model.pt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["device"] == "cuda"


def test_mixed_pictures_and_a_transfer_on_the_gpu(tmp_path: Path, digits_npz: Path, image_folder: Path) -> None:
    first = train(tmp_path / "a.pt", config(digits_npz, augment={"mixup": 0.2, "cutmix": 1.0, "shift_px": 2}))
    second = train(
        tmp_path / "b.pt",
        config(image_folder, model={"arch": None, "weights": str(first.output), "freeze": True}, epochs=2, batch=8),
    )
    assert second.output.is_file()
