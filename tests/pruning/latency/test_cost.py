"""What narrowing a group loses, as the knapsack counts it."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit.pruning.latency.cost import losses_of


def test_importance_of_one_unit_adds_up() -> None:
    assert losses_of(np.array([1.0, 4.0, 2.0, 3.0]), (4, 3, 1), comparable=True) == (0.0, 1.0, 6.0)


def test_other_importance_counts_as_noise_over_signal() -> None:
    found = losses_of(np.array([1.0, 4.0, 2.0, 3.0]), (4, 3, 1), comparable=False)
    assert found == pytest.approx((0.0, 1 / 9, 6 / 4))
    assert losses_of(10 * np.array([1.0, 4.0, 2.0, 3.0]), (4, 3, 1), comparable=False) == pytest.approx(found)


def test_an_emptying_group_loses_ever_more() -> None:
    scores = np.ones(16)
    losses = losses_of(scores, (16, 12, 8, 4), comparable=False)
    steps = np.diff(losses)
    assert (np.diff(steps) > 0).all()


def test_channels_without_any_importance_count_alike() -> None:
    assert losses_of(np.zeros(4), (4, 2), comparable=False) == losses_of(np.ones(4), (4, 2), comparable=False)
