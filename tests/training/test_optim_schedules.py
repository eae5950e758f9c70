from __future__ import annotations

import pytest
import torch

from deploykit.config.train import LoopConfig
from deploykit.training.optim import share_of_rate


def rates(steps_per_epoch: int = 10, **fields) -> list[float]:
    config = LoopConfig(**{"epochs": 4, **fields})
    return [0.5 * share_of_rate(config, step, steps_per_epoch) for step in range(config.epochs * steps_per_epoch)]


def test_cosine_is_torchs() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)
    expected = []
    for _ in range(40):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates() == pytest.approx(expected)


def test_one_cycle_is_torchs() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=40, cycle_momentum=False)
    expected = []
    for _ in range(40):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates(schedule="onecycle") == pytest.approx(expected, abs=1e-9)


def test_warm_up_is_linear_and_the_schedule_starts_at_the_peak() -> None:
    got = rates(warmup_epochs=1)
    assert got[:10] == pytest.approx([0.05 * (i + 1) for i in range(10)])
    assert got[10] == pytest.approx(0.5)


def test_steps_and_constant() -> None:
    got = rates(schedule="step", step_epochs=2, step_gamma=0.1)
    assert got[0] == 0.5
    assert got[19] == 0.5
    assert got[20] == pytest.approx(0.05)
    assert set(rates(schedule="constant")) == {0.5}
