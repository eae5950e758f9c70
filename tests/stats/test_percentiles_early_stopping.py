"""LoadGen's early stopping: published counts, the binomial behind it, and that the claim holds as often as promised."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from deploykit.stats.percentiles import least_queries, percentile_estimate


@pytest.mark.parametrize(("share", "over", "n"), [(0.90, 1, 64), (0.99, 1, 662), (0.90, 0, 44), (0.99, 0, 459)])
def test_the_published_counts(share, over, n):
    assert least_queries(over, share) == n


@given(st.integers(0, 200), st.floats(0.5, 0.999), st.floats(0.5, 0.999))
def test_it_is_the_smallest_count_whose_binomial_tail_is_below(over, share, confidence):
    n = least_queries(over, share, confidence)
    # P(at most `over` calls above the bound) if exactly a share keeps it
    assert binom.cdf(over, n, 1 - share) <= (1 - confidence) * (1 + 1e-6)
    assert n == over + 1 or binom.cdf(over, n - 1, 1 - share) > (1 - confidence) * (1 - 1e-6)


def test_more_calls_over_need_more_calls():
    counts = [least_queries(over, 0.99) for over in range(12)]
    assert counts == sorted(set(counts))


def test_the_estimate_is_the_t_th_largest_sample():
    samples = np.arange(1.0, 1001)
    found = percentile_estimate(np.random.default_rng(0).permutation(samples), 0.9)
    assert least_queries(found.over, 0.9) <= 1000 < least_queries(found.over + 1, 0.9)
    assert found.value == 1001 - found.over
    assert found.value > np.quantile(samples, 0.9)


def test_too_few_samples_say_how_many_are_needed():
    found = percentile_estimate(np.ones(63), 0.9)
    assert (found.value, found.n, found.needed) == (None, 63, 64)
    assert percentile_estimate(np.ones(64), 0.9).value == 1.0


def test_the_claim_holds_as_often_as_promised():
    generator = np.random.default_rng(1)
    samples = np.sort(generator.exponential(size=(4000, 300)), axis=1)
    over = percentile_estimate(samples[0], 0.9).over
    claimed = samples[:, 300 - over]
    assert np.mean(claimed < -np.log(0.1)) <= 0.012  # below the true p90, which 1 % may be


@pytest.mark.parametrize("wrong", [(-1, 0.9, 0.99, 0.0), (1, 1.0, 0.99, 0.0), (1, 0.9, 1.0, 0.0), (1, 0.9, 0.99, 0.9)])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="least_queries needs"):
        least_queries(*wrong)


def test_samples_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        percentile_estimate(np.array([1.0, np.nan]), 0.9)
