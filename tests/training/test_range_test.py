from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from deploykit.config.distill import DistillConfig
from deploykit.config.train import LoopConfig
from deploykit.training import range_test
from deploykit.training.range_test import (
    LADDER,
    best_rate,
    first_rate,
    has_fallen,
    next_rate,
    steps_of_trial,
    warmed_up,
)
from deploykit.training.resume import Diverged, ResumeFile, Trial
from deploykit.training.step import Score
from tests.listening import Listening
from tests.training.conftest import network
from tests.training.test_loop import StopAfter, equal


def trial(lr: float, loss: float | None, noise: float = 0.0) -> Trial:
    losses = [] if loss is None else [loss - noise, loss + noise]
    return {"lr": lr, "loss": loss, "top1": 0.5, "losses": losses}


def climbed(loss_of: Callable[[float], float | None], first: float) -> list[Trial]:
    tried: list[Trial] = []
    while (rate := next_rate(tried, first)) is not None:
        tried.append(trial(rate, loss_of(rate)))
    return tried


@pytest.mark.parametrize("best", LADDER)
def test_the_ladder_is_climbed_to_the_best_rate_from_anywhere(best: float) -> None:
    tried = climbed(lambda rate: abs(math.log(rate / best)), 0.003)
    assert best_rate(tried) == best
    assert len({one["lr"] for one in tried}) == len(tried)


def test_rates_that_diverge_are_passed_downwards() -> None:
    assert best_rate(climbed(lambda rate: None if rate > 2e-4 else abs(math.log(rate / 1e-4)), 0.01)) == 1e-4
    all_of_them = climbed(lambda rate: None, 0.01)
    assert [one["lr"] for one in all_of_them] == [rate for rate in LADDER if rate <= 0.01]
    assert best_rate(all_of_them) == LADDER[-1]


def test_the_largest_of_those_that_cannot_be_told_apart_is_taken() -> None:
    tried = [trial(0.01, 0.5), trial(0.003, 0.3, noise=0.2), trial(0.001, 0.29)]
    assert best_rate(tried) == 0.003
    assert best_rate([trial(0.01, 0.5), trial(0.003, 0.3), trial(0.001, 0.29)]) == 0.001


def test_the_rate_begins_lower_where_gradients_are_larger() -> None:
    assert first_rate("sgd", 1.0) == 0.01
    assert first_rate("sgd", DistillConfig(data="digits", teachers=("t.pt",)).gain) == 0.003
    assert first_rate("adamw", 3.7) == first_rate("adamw", 1.0) == 0.0003


def test_the_gain_of_a_distillation_is_that_of_its_gradient() -> None:
    """Far from the teacher, T²·KL and cross-entropy with one certain class have gradients of T to 1."""
    config = DistillConfig(data="digits", teachers=("t.pt",), alpha=1.0)
    student, target = torch.zeros(1, 10, requires_grad=True), torch.zeros(1, 10)
    target[0, 3] = 1000.0
    from deploykit.distillation.losses.kd import kd

    kd(student, target, config.at_temperature).backward()
    of_kd = student.grad.norm().item()
    student.grad = None
    functional.cross_entropy(student, torch.tensor([3])).backward()
    assert of_kd / student.grad.norm().item() == pytest.approx(config.gain)


@pytest.mark.parametrize(("steps", "of_trial"), [(1, 1), (3, 3), (96, 16), (400, 40), (100_000, 64)])
def test_trials_are_short(steps: int, of_trial: int) -> None:
    assert steps_of_trial(steps) == of_trial


def test_a_found_rate_is_warmed_up_to() -> None:
    assert warmed_up(LoopConfig(epochs=3)).warmup_epochs == pytest.approx(0.3)
    assert warmed_up(LoopConfig(epochs=90)).warmup_epochs == 1
    assert warmed_up(LoopConfig(epochs=90, warmup_epochs=5)).warmup_epochs == 5


def score(top1: float, images: int = 200, loss: float = 1.0) -> Score:
    return Score(np.arange(images) < top1 * images, np.full(images, loss))


@pytest.mark.parametrize(
    ("now", "best", "fallen"),
    [
        (score(0.11), 0.47, True),
        (score(0.64), 0.99, True),
        (score(0.94), 0.99, False),
        (score(0.40), 0.47, False),
        (score(0.5, images=8), 0.75, False),
        (score(0.47, loss=30.0), 0.47, True),
        (score(0.47, loss=math.nan), 0.47, True),
    ],
)
def test_what_counts_as_a_fall(now: Score, best: float, fallen: bool) -> None:
    assert has_fallen(now, best, score(0.47, loss=1.8), classes=10) is fallen


LEARNT: dict[str, torch.Tensor] = {}


@pytest.fixture
def trained(run: Any) -> nn.Module:
    """A network that answers some of ``select`` right."""
    if not LEARNT:
        LEARNT.update(run(epochs=6, lr=0.05).tensors)
    module = network()
    module.load_state_dict(LEARNT)
    return module


def test_a_trained_network_finds_its_rate_and_beats_what_it_was(
    run: Any, trained: nn.Module, listening: Listening
) -> None:
    outcome = run(trained, trained=True, lr="auto", progress=listening)
    course = outcome.course
    assert course.lr in LADDER
    assert course.lr == best_rate(course.trials)
    assert course.best_top1 >= course.before > 0.5
    (told,) = [line for line in listening.said if line.startswith("learning rate")]
    assert all(f"{one['lr']:g}: loss {one['loss']:.3f}" in told for one in course.trials)


def test_with_few_images_to_judge_by_the_usual_rate_is_taken(
    run: Any, trained: nn.Module, listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(range_test, "ENOUGH", 10**6)
    course = run(trained, trained=True, lr="auto", epochs=1, progress=listening).course
    assert course.lr == first_rate("sgd", 1.0)
    assert course.trials == []
    assert any("select images are too few to try rates on" in line for line in listening.said)


def test_random_weights_keep_the_fixed_rate(run: Any) -> None:
    assert run(lr="auto", epochs=1).course.lr == 0.1
    assert run(lr="auto", epochs=1, optimizer="adamw").course.lr == pytest.approx(0.001)


@pytest.mark.parametrize("looks", [0, 3, 30, 60])
def test_a_run_stopped_among_trials_or_later_goes_on_to_the_same_bits(
    run: Any, trained: nn.Module, tmp_path: Path, looks: int
) -> None:
    fields = dict(trained=True, lr="auto", ema=0.9, augment={"shift_px": 2}, epochs=2)

    def go(**more: Any) -> Any:
        trained.load_state_dict(LEARNT)
        return run(trained, **fields, **more)

    whole = go()
    kept = ResumeFile(tmp_path / "model.pt", "key", {})
    with pytest.raises(KeyboardInterrupt):
        go(resume=kept, stop=StopAfter(looks))
    again = go(resume=kept)
    assert equal(whole.tensors, again.tensors)
    assert equal(whole.ema, again.ema)
    assert whole.course.trials == again.course.trials
    assert whole.course.lr == again.course.lr


def wrecking(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Learns the wrong answers."""
    return functional.cross_entropy(module(x), (y + 1) % 10)


def test_a_fall_is_noticed_and_training_goes_back_and_lower(
    run: Any, trained: nn.Module, tmp_path: Path, listening: Listening
) -> None:
    fields = dict(trained=True, guarded=True, lr=0.2, step=wrecking, epochs=2)
    outcome = run(trained, **fields, progress=listening)
    course = outcome.course
    assert [one["to"] for one in course.retries] == [0] * len(course.retries)
    rates = [one["lr"] for one in course.retries]
    assert rates[0] == 0.2
    assert len(rates) > 1
    assert all(b / a == 0.25 for a, b in pairwise(rates))
    assert course.lr == rates[-1] / 4
    assert all(one["top1"] < course.before - 0.1 for one in course.retries)
    assert len([line for line in listening.warned if "back to the network as it came" in line]) == len(rates)
    assert course.best == -1
    assert equal(outcome.tensors, LEARNT)

    def go(**more: Any) -> Any:
        trained.load_state_dict(LEARNT)
        return run(trained, **fields, **more)

    kept = ResumeFile(tmp_path / "model.pt", "key", {})
    with pytest.raises(KeyboardInterrupt):
        go(resume=kept, stop=StopAfter(12))
    assert go(resume=kept).course.retries == course.retries


def test_what_answers_worse_on_purpose_need_not_beat_its_start(
    run: Any, trained: nn.Module, listening: Listening
) -> None:
    course = run(trained, trained=True, beats=False, lr="auto", step=wrecking, epochs=1, progress=listening).course
    assert course.trials
    assert course.best == 0
    assert course.retries == []
    assert not listening.warned


def test_a_good_epoch_before_a_fall_is_gone_back_to(run: Any, listening: Listening) -> None:
    calls = []

    def spoilt(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        loss = functional.cross_entropy(module(x), y)
        return loss * float("nan") if len(calls) == 2 * run.per_epoch + 3 else loss

    whole = run(lr="auto", epochs=4, step=spoilt, progress=listening)
    (retry,) = whole.course.retries
    assert retry == {"epoch": 3, "to": whole.course.retries[0]["to"], "lr": 0.1, "top1": None}
    assert retry["to"] in (1, 2)
    assert len(whole.course.top1) == 4
    assert any("the loss diverged; back to epoch" in line for line in listening.warned)


def test_a_rate_that_was_asked_for_is_kept_and_the_fall_is_said(
    run: Any, trained: nn.Module, listening: Listening
) -> None:
    outcome = run(trained, trained=True, lr=0.2, step=wrecking, progress=listening, epochs=1)
    assert outcome.course.retries == []
    assert outcome.course.lr == 0.2
    assert outcome.course.best == -1
    assert equal(outcome.tensors, LEARNT)
    assert any("fell from" in line and "lower --lr" in line for line in listening.warned)


def test_a_loss_that_is_nan_from_the_first_step_is_no_question_of_the_rate(run: Any, trained: nn.Module) -> None:
    def nan(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(module(x), y) * float("nan")

    with pytest.raises(Diverged, match="nothing was learned yet") as caught:
        run(lr="auto", step=nan)
    assert caught.value.kept is None
    with pytest.raises(Diverged, match="nothing was learned yet"):
        run(trained, trained=True, lr="auto", step=nan)
