from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from deploykit.base.errors import BadInput
from deploykit.config.train import AugmentConfig
from deploykit.training.resume import Course, Diverged, ResumeFile
from deploykit.training.signals import Stop
from tests.listening import Listening

RICH = dict(
    epochs=3,
    ema=0.9,
    clip_norm=1.0,
    optimizer="adamw",
    lr=0.003,
    warmup_epochs=0.5,
    augment=AugmentConfig(shift_px=2, crop=0.5, flip=0.1, color=0.1, mixup=0.2, cutmix=0.5),
)


def equal(a: dict, b: dict) -> bool:
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_and_keeps_the_best_epoch(run) -> None:
    outcome = run(epochs=6, lr=0.05)
    assert outcome.course.losses[-1] < 0.6 * outcome.course.losses[0]
    assert outcome.course.top1[outcome.course.best] == max(outcome.course.top1)
    assert outcome.course.images == 6 * round(outcome.course.images / 6)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(run) -> None:
    first = run(**RICH)
    assert equal(first.tensors, run(**RICH).tensors)
    assert not equal(first.tensors, run(**RICH, seed=1).tensors)


class StopAfter(Stop):
    """Asks to stop at the n-th look."""

    def __init__(self, looks: int) -> None:
        self.left = looks
        self.patient = False

    @property
    def asked(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("looks", [2, 6, 9])
def test_a_stopped_run_goes_on_to_the_same_bits(run, tmp_path: Path, looks: int, listening: Listening) -> None:
    whole = run(**RICH)
    kept = ResumeFile(tmp_path / "model.pt", "key", {})
    with pytest.raises(KeyboardInterrupt):
        run(**RICH, resume=kept, stop=StopAfter(looks), progress=listening)
    assert "the state is kept in .model.pt.resume" in listening.said[-1]
    again = run(**RICH, resume=kept, progress=listening)
    assert any(line.startswith("going on after epoch") for line in listening.said)
    assert equal(whole.tensors, again.tensors)
    assert equal(whole.ema, again.ema)
    assert whole.course.top1 == again.course.top1
    assert whole.course.losses == again.course.losses
    assert whole.course.images == again.course.images


def test_threads_are_kept_over_a_resume(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ResumeFile(tmp_path / "model.pt", "key", {})
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with pytest.raises(KeyboardInterrupt):
        run(threads=None, resume=kept, stop=StopAfter(3))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert run(threads=None, resume=kept).course.threads == 2


def test_early_stop(run, listening: Listening) -> None:
    outcome = run(epochs=30, lr=1e-9, early_stop=2, progress=listening)
    assert len(outcome.course.top1) < 30
    assert outcome.course.stale == 2
    assert "stopped early: 2 epochs without a better top-1 on select" in listening.said


def nan_at(step_number: int):
    calls = 0

    def step(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        loss = functional.cross_entropy(module(x), y)
        return loss * float("nan") if calls == step_number else loss

    return step


def test_nan_loss_names_the_step_and_keeps_the_best(run) -> None:
    with pytest.raises(Diverged, match=r"became NaN or infinite in epoch 2, step 3\. Lower --lr") as caught:
        run(epochs=3, step=nan_at(_steps(run) + 3))
    kept = caught.value.kept
    assert kept.course.best == 0
    assert all(torch.isfinite(tensor).all() for tensor in kept.tensors.values())


def _steps(run) -> int:
    count = 0

    def step(module, x, y):
        nonlocal count
        count += 1
        return functional.cross_entropy(module(x), y)

    run(epochs=1, step=step)
    return count


def test_nan_in_the_first_epoch_keeps_nothing(run) -> None:
    with pytest.raises(Diverged, match="epoch 1, step 1") as caught:
        run(step=nan_at(1))
    assert caught.value.kept is None


def test_frozen_parts_stay_as_they_are(run) -> None:
    from deploykit.training.modes import freeze_all_but
    from tests.training.conftest import network

    module = network()
    before = copy.deepcopy(module.state_dict())
    freeze_all_but(module, "5")
    after = run(module=module).tensors
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"5.weight", "5.bias"}


def test_one_picture_is_too_few_for_batchnorm(run) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(768, 10), nn.BatchNorm1d(10))
    with pytest.raises(BadInput, match="BatchNorm cannot train on one picture; got batch 1"):
        run(module=module, batch=1)


def test_clipping_bounds_the_step(run) -> None:
    from tests.training.conftest import network

    moved = {}
    for limit in (None, 1e-6):
        module = network()
        before = module[5].weight.detach().clone()
        run(module=module, epochs=1, clip_norm=limit, weight_decay=0, momentum=0)
        moved[limit] = (module[5].weight - before).norm().item()
    assert moved[1e-6] < 1e-4 < moved[None]


def test_best_is_the_last_of_equals() -> None:
    assert Course(top1=[0.5, 0.9, 0.9, 0.7]).best == 2
    assert Course(top1=[0.5, 0.9, 0.9, 0.7]).stale == 2
    assert Course(top1=[None, None]).best == 1
    assert Course().best == -1
