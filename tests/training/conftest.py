"""What the tests of training share: splits of 256 real digits, a tiny network, and the loop on both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn


@pytest.fixture(scope="session")
def splits(digits_npz: Path) -> dict[str, Any]:
    from deploykit.data import open_data

    data = open_data(str(digits_npz))
    return {name: data.split(name) for name in ("train", "select", "test")}


@pytest.fixture(scope="session")
def preprocessing(digits_npz: Path) -> Any:
    from deploykit.data import open_data

    return open_data(str(digits_npz)).preprocessing((16, 16))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(512, 10),
    )


@pytest.fixture
def run(splits: dict[str, Any], preprocessing: Any) -> Callable[..., Any]:
    """``run(config fields…, module=, step=, resume=, stop=, progress=)`` → the outcome of a short run on real digits."""
    from deploykit.base.progress import SILENT
    from deploykit.config.train import LoopConfig
    from deploykit.training.batches import Batches
    from deploykit.training.distributed import open_fabric
    from deploykit.training.learner import Training
    from deploykit.training.loop import fit
    from deploykit.training.signals import Stop
    from deploykit.training.step import cross_entropy_step, judge_on, score_before

    def go(
        module=None,
        step=None,
        resume=None,
        stop=None,
        progress=SILENT,
        trained=False,
        guarded=False,
        beats=True,
        **fields: Any,
    ) -> Any:
        fields = {"epochs": 2, "batch": 32, "threads": 1, "device": "cpu", "lr": 0.02, **fields}
        config = LoopConfig(**fields)
        fabric = open_fabric(config)
        module = network() if module is None else module
        judge = judge_on(splits["select"], preprocessing, 64, fabric)
        training = Training(
            module,
            Batches(splits["train"], preprocessing, config.batch, seed=config.seed, crop=config.augment.crop),
            config,
            step or cross_entropy_step(0.1),
            fabric,
            num_classes=10,
            judge=judge,
            trained=trained,
            guarded=guarded,
            beats=beats,
            before=score_before(module, judge, config, fabric) if trained else None,
            resume=resume,
            stop=stop or Stop(),
            progress=progress,
        )
        return fit(training)

    go.per_epoch = -(-len(splits["train"]) // 32)
    return go
