from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from deploykit.stats.proportions import clopper_pearson, wilson


@given(st.integers(1, 5000), st.floats(0, 1), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_it_equals_statsmodels(n: int, share: float, level: float) -> None:
    successes = round(share * n)
    expected = proportion_confint(successes, n, alpha=1 - level, method="wilson")
    assert wilson(successes, n, level) == pytest.approx(expected, abs=1e-12)


@given(st.integers(1, 5000), st.floats(0, 1), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_the_exact_one_equals_statsmodels(n: int, share: float, level: float) -> None:
    successes = round(share * n)
    expected = proportion_confint(successes, n, alpha=1 - level, method="beta")
    assert clopper_pearson(successes, n, level) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("truth", [0.88, 0.9, 0.97])
def test_the_exact_one_misses_at_most_as_often_as_it_says(truth: float) -> None:
    drawn = np.random.default_rng(0).binomial(60, truth, size=4000)
    intervals = [clopper_pearson(int(kept), 60) for kept in drawn]
    assert np.mean([low <= truth <= high for low, high in intervals]) >= 0.945


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_it_holds_the_estimate_and_stays_in_the_unit_interval(n: int, share: float) -> None:
    successes = round(share * n)
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert high > low


def test_the_ends_are_exact() -> None:
    assert wilson(0, 50)[0] == 0
    assert wilson(50, 50)[1] == 1


def test_it_covers_what_it_claims() -> None:
    generator = np.random.default_rng(0)
    hits = []
    for truth in (0.02, 0.5, 0.98):
        drawn = generator.binomial(450, truth, size=1500)
        hits += [low <= truth <= high for low, high in (wilson(int(k), 450) for k in drawn)]
    assert 0.935 <= np.mean(hits) <= 0.97


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="must"):
        wilson(successes, n)
