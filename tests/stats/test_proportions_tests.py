"""p-values against statsmodels, against their own intervals, and how often they err."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from deploykit.stats.multiple_tests import factor_needed
from deploykit.stats.paired import score_interval
from deploykit.stats.proportions import paired_p, proportion_p, unpaired_interval, unpaired_p, wilson


@given(st.integers(1, 500), st.floats(0, 1), st.floats(0.8, 0.999))
def test_a_bound_of_the_wilson_interval_has_the_matching_p(n, rate, level):
    right = round(rate * n)
    low, high = wilson(right, n, level)
    assert (low, high) == pytest.approx(proportion_confint(right, n, 1 - level, method="wilson"), abs=1e-12)
    for bound in (low, high):
        if 0 < bound < 1:
            assert proportion_p(right, n, bound) == pytest.approx(1 - level, rel=1e-6)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(130, 4000), st.floats(0.8, 0.999))
@settings(max_examples=60)
def test_a_bound_of_tangos_interval_has_the_matching_p(lost, won, n, level):
    for bound in score_interval(lost, won, n, level):
        if abs(bound) < 1:
            assert paired_p(lost, won, n, bound) == pytest.approx(1 - level, rel=1e-3)


def test_the_estimate_itself_is_never_doubted():
    assert paired_p(12, 4, 450, 8 / 450) == pytest.approx(1.0)
    assert proportion_p(430, 450, 430 / 450) == pytest.approx(1.0)
    assert proportion_p(450, 450, 1.0) == 1.0
    assert proportion_p(449, 450, 1.0) == 0.0


def test_the_paired_test_keeps_its_level():
    generator = np.random.default_rng(0)
    counts = generator.multinomial(2000, [0.03, 0.02, 0.95], size=4000)
    alarms = np.mean([paired_p(lost, won, 2000, 0.01) < 0.05 for lost, won, _ in counts])
    assert 0.04 <= alarms <= 0.06


def test_unpaired_images_know_less_than_paired_ones():
    assert unpaired_p(9000, 10_000, 8900, 10_000, 0.0) > paired_p(150, 50, 10_000, 0.0)
    low, high = unpaired_interval(9000, 10_000, 8900, 10_000, 0.95)
    assert low < 0.01 < high
    assert unpaired_p(9000, 10_000, 8900, 10_000, low) == pytest.approx(0.05, rel=1e-6)


def test_how_many_more_images_would_do():
    factor = factor_needed(lambda k: paired_p(9 * k, 4 * k, 450 * k, 0.02), 0.05)
    assert paired_p(9 * factor, 4 * factor, 450 * factor, 0.02) <= 0.05
    assert paired_p(9 * factor * 0.99, 4 * factor * 0.99, 450 * factor * 0.99, 0.02) > 0.05


def test_an_estimate_on_the_limit_needs_more_than_can_be_measured():
    assert factor_needed(lambda k: paired_p(9 * k, 0, 450 * k, 0.02), 0.05) is None


def test_counts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="counts within n"):
        paired_p(10, 10, 15, 0.0)
    with pytest.raises(ValueError, match="successes <= n"):
        proportion_p(3, 2, 0.5)
    with pytest.raises(ValueError, match="trials of both"):
        unpaired_p(0, 0, 1, 2, 0.0)
