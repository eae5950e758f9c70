"""The paired speed-up and its interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploykit.stats.ratio import half_width, speed_up, speed_up_interval

times = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=40)


@given(times, st.floats(0.1, 10))
def test_scaling_the_candidate_scales_the_ratio(values, factor):
    base = np.array(values)
    assert speed_up(base, base / factor) == pytest.approx(factor)


@given(st.lists(st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)), min_size=5, max_size=40))
def test_swapping_the_sides_inverts_the_ratio_and_its_interval(pairs):
    base, candidate = np.array(pairs).T
    assert speed_up(candidate, base) == pytest.approx(1 / speed_up(base, candidate))
    low, high = speed_up_interval(base, candidate, resamples=200)
    again = speed_up_interval(candidate, base, resamples=200)
    assert again == pytest.approx((1 / high, 1 / low), rel=1e-6)
    assert low <= high


@given(times.filter(lambda t: len(t) >= 5), st.floats(0.1, 10))
def test_drift_that_both_sides_share_cancels_exactly(drift, factor):
    base = np.array(drift)
    assert speed_up_interval(base, base / factor, resamples=50) == pytest.approx((factor, factor))


def _simulated(generator, rounds, true, *, interleaved):
    """Times of both sides under a slow drift (a random walk of log speed) and heavy-tailed noise."""
    steps = generator.normal(0, 0.02, size=2 * rounds).cumsum()
    noise = generator.standard_t(4, size=2 * rounds) * 0.02
    series = np.exp(steps + noise)
    if interleaved:
        return series[0::2], series[1::2] / true
    return series[:rounds], series[rounds:] / true


@pytest.mark.parametrize("rounds", [20, 60])
def test_the_interval_covers_the_true_ratio_under_drift_when_interleaved(rounds):
    generator = np.random.default_rng(1)
    trials, inside, outside_sequential = 500, 0, 0
    for _ in range(trials):
        low, high = speed_up_interval(*_simulated(generator, rounds, 1.3, interleaved=True), resamples=300)
        inside += low <= 1.3 <= high
        low, high = speed_up_interval(*_simulated(generator, rounds, 1.3, interleaved=False), resamples=300)
        outside_sequential += not low <= 1.3 <= high
    assert 0.92 <= inside / trials <= 0.995
    assert outside_sequential / trials > 0.3  # an interval on sequential data cannot see drift


def test_equal_seeds_give_equal_intervals():
    base, candidate = np.random.default_rng(0).lognormal(size=(2, 30))
    assert speed_up_interval(base, candidate, seed=3) == speed_up_interval(base, candidate, seed=3)


def test_half_width_is_the_larger_side():
    assert half_width(2.0, 1.8, 2.1) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("base", "candidate", "message"),
    [([], [], "same rounds"), ([1, 2], [1], "same rounds"), ([1, 0], [1, 1], "above 0"), ([1], [np.nan], "above 0")],
)
def test_wrong_times_are_refused(base, candidate, message):
    with pytest.raises(ValueError, match=message):
        speed_up(np.array(base), np.array(candidate))


def test_few_rounds_have_no_interval():
    with pytest.raises(ValueError, match="at least 5 rounds, got 4"):
        speed_up_interval(np.ones(4), np.ones(4))
