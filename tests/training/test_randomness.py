from __future__ import annotations

import numpy as np

from deploykit.training.randomness import seed_of, uniform


def test_a_row_depends_on_its_index_only() -> None:
    whole = uniform(7, np.arange(100), 4)
    assert np.array_equal(uniform(7, np.array([42, 3]), 4), whole[[42, 3]])
    assert not np.array_equal(uniform(8, np.arange(100), 4), whole)


def test_the_numbers_are_uniform_and_independent() -> None:
    draws = uniform(seed_of(0, "augment", 1), np.arange(50_000), 4)
    assert draws.min() >= 0
    assert draws.max() < 1
    assert np.abs(draws.mean(0) - 0.5).max() < 0.006
    assert np.abs(draws.var(0) - 1 / 12).max() < 0.003
    assert np.abs(np.corrcoef(draws.T) - np.eye(4)).max() < 0.02


def test_seeds_differ_by_purpose_and_stay_the_same() -> None:
    assert seed_of(0, "step", 1) != seed_of(0, "mix", 1)
    assert seed_of(0, "step", 1, 12) != seed_of(0, "step", 11, 2)
    assert seed_of(1, "a") == seed_of(1, "a") < 2**63
