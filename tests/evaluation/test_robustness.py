from __future__ import annotations

import numpy as np
import pytest

from deploykit.evaluation.robustness import CORRUPTIONS, STRENGTHS, corrupt


@pytest.fixture
def picture(digits) -> np.ndarray:
    return digits[0][3]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_strength_changes_more_and_leaves_the_form(picture: np.ndarray, name: str) -> None:
    large = np.kron(picture, np.ones((4, 4, 1), dtype=np.uint8))
    before = large.copy()
    changed = []
    for strength in STRENGTHS:
        made = corrupt(large, name, strength, seed=0, number=7)
        assert made.dtype == np.uint8
        assert made.shape == large.shape
        changed.append(float(np.abs(made.astype(float) - large).mean()))
    assert 0 < changed[0] < changed[1] < changed[2] < 100
    assert np.array_equal(large, before)


def test_the_seed_decides_and_every_picture_has_its_own_noise(picture: np.ndarray) -> None:
    one = corrupt(picture, "noise", 2, seed=1, number=5)
    assert np.array_equal(one, corrupt(picture, "noise", 2, seed=1, number=5))
    assert not np.array_equal(one, corrupt(picture, "noise", 2, seed=2, number=5))
    assert not np.array_equal(one, corrupt(picture, "noise", 2, seed=1, number=6))


def test_brightness_goes_both_ways(picture: np.ndarray) -> None:
    grey = np.full((32, 32, 3), 128, dtype=np.uint8)
    means = {int(corrupt(grey, "brightness", 2, 0, number).mean()) for number in range(20)}
    assert means == {128 - 51, 128 + 51}


def test_noise_has_the_stated_strength() -> None:
    grey = np.full((200, 200, 3), 128, dtype=np.uint8)
    made = corrupt(grey, "noise", 2, 0, 0)
    assert made.std() == pytest.approx(0.08 * 255, rel=0.03)
