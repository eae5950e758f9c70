from __future__ import annotations

import numpy as np
import pytest
import torch

from deploykit.distillation.ensemble import as_one, weights_by_select

ONE = torch.tensor([[4.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
TWO = torch.tensor([[0.0, 2.0, 0.0], [0.0, 5.0, 0.0]])
THREE = torch.tensor([[3.0, 1.0, 0.0], [1.0, 0.0, 2.0]])


def shares(logits: torch.Tensor, temperature: float) -> np.ndarray:
    return torch.softmax(logits / temperature, dim=1).numpy()


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_average_and_weighted_are_means_of_distributions(temperature: float) -> None:
    parts = [shares(one, temperature) for one in (ONE, TWO, THREE)]
    average = as_one([ONE, TWO, THREE], temperature)
    assert shares(average, temperature) == pytest.approx(sum(parts) / 3, rel=1e-5)
    weighted = as_one([ONE, TWO, THREE], temperature, "weighted", (0.7, 0.3, 0.0))
    assert shares(weighted, temperature) == pytest.approx(0.7 * parts[0] + 0.3 * parts[1], rel=1e-5)


def test_vote_asks_only_those_who_agree_with_the_majority() -> None:
    voted = shares(as_one([ONE, TWO, THREE], 1.0, "vote"), 1.0)
    assert voted[0] == pytest.approx((shares(ONE, 1.0)[0] + shares(THREE, 1.0)[0]) / 2, rel=1e-5)
    assert voted[1] == pytest.approx((shares(ONE, 1.0)[1] + shares(TWO, 1.0)[1]) / 2, rel=1e-5)


def test_a_drawn_vote_goes_to_the_more_certain() -> None:
    assert as_one([ONE, TWO], 1.0, "vote")[0].argmax() == 0
    assert as_one([0.1 * ONE, TWO], 1.0, "vote")[0].argmax() == 1


def test_a_single_teacher_is_itself() -> None:
    for how in ("average", "weighted", "vote"):
        assert torch.equal(as_one([ONE], 4.0, how, (1.0,)), ONE)


def test_weights_climb_to_the_best_likelihood() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 400)
    right = np.eye(4)[labels]
    good, fair, noise = (
        3 * right * (rng.random((400, 1)) < share) + rng.normal(size=(400, 4)) for share in (0.9, 0.6, 0)
    )

    def likelihood(weights: tuple[float, ...]) -> float:
        parts = [np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in (good, fair, noise)]
        mixed = sum(w * part[np.arange(400), labels] for w, part in zip(weights, parts, strict=True))
        return float(np.log(mixed).sum())

    weights = weights_by_select([good, fair, noise], labels)
    assert sum(weights) == pytest.approx(1)
    assert weights[0] > weights[1] > weights[2]
    best = likelihood(weights)
    for step in ((0.02, -0.02, 0), (-0.02, 0.02, 0), (-0.02, 0, 0.02), (0, -0.02, 0.02)):
        moved = tuple(w + s for w, s in zip(weights, step, strict=True))
        if min(moved) >= 0:
            assert likelihood(moved) <= best + 1e-6
