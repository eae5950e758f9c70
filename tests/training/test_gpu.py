"""Training on a CUDA GPU: mixed precision, resume, and that the file loads where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploykit.base.config.train import TrainConfig
from deploykit.commands.train import train

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

    from deploykit.zoo import load_model

    result = train(tmp_path / "model.pt", config(digits_npz, precision="bf16", epochs=1))
    loaded = load_model(result.output)
    assert {p.dtype for p in loaded.module.parameters()} == {torch.float32}
    assert {p.device.type for p in loaded.module.parameters()} == {"cpu"}
    assert torch.isfinite(loaded.module(torch.zeros(2, 3, 32, 32))).all()


def test_mixed_pictures_and_a_transfer_on_the_gpu(tmp_path: Path, digits_npz: Path, image_folder: Path) -> None:
    first = train(tmp_path / "a.pt", config(digits_npz, augment={"mixup": 0.2, "cutmix": 1.0, "shift_px": 2}))
    second = train(
        tmp_path / "b.pt",
        config(image_folder, model={"arch": None, "weights": str(first.output), "freeze": True}, epochs=2, batch=8),
    )
    assert second.output.is_file()
