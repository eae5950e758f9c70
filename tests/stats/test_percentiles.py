"""Percentiles of pooled samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploykit.stats.percentiles import percentile, percentile_interval
from deploykit.stats.ratio import circular_runs, expanded_tail

samples = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=60)


@given(samples, st.floats(0.01, 1))
def test_it_is_a_measured_value_that_the_share_does_not_exceed(values, share):
    array = np.array(values)
    found = percentile(array, share)
    assert found in values
    assert np.mean(array <= found) >= share - 1e-9
    assert np.mean(array < found) < share


@given(samples)
def test_percentiles_are_in_order_and_end_at_the_maximum(values):
    array = np.array(values)
    assert percentile(array, 0.5) <= percentile(array, 0.9) <= percentile(array, 0.99) <= percentile(array, 1.0)
    assert percentile(array, 1.0) == max(values)


@given(st.lists(samples, min_size=2, max_size=9), st.sampled_from([0.5, 0.9]))
def test_resampling_agrees_with_doing_it_by_hand(blocks, share):
    arrays = [np.array(block) for block in blocks]
    low, high = percentile_interval(arrays, share, seed=5, resamples=60)
    index, runs = circular_runs(len(arrays), 60, np.random.default_rng(5))
    by_hand = [percentile(np.concatenate([arrays[i] for i in row]), share) for row in index]
    tail = expanded_tail(0.025, runs)
    assert (low, high) == pytest.approx(tuple(np.quantile(by_hand, [tail, 1 - tail])))


def test_blocks_that_differ_widen_the_interval():
    generator = np.random.default_rng(0)
    alike = [generator.normal(10, 1, 50) for _ in range(20)]
    different = [block + generator.normal(0, 3) for block in alike]
    low, high = percentile_interval(alike, 0.5)
    wide_low, wide_high = percentile_interval(different, 0.5)
    assert wide_high - wide_low > 3 * (high - low)


def _blocks(generator, count, drift):
    """Blocks whose level wanders (autocorrelated where ``drift`` is above 0), with a heavy-tailed spread inside."""
    level = generator.normal(0, 0.05, count)
    for i in range(1, count):
        level[i] += drift * level[i - 1]
    return [5 * np.exp(one + 0.02 * np.abs(generator.standard_t(3, 10))) for one in level]


@pytest.mark.parametrize(
    ("count", "drift", "least"), [(5, 0.0, 0.87), (10, 0.0, 0.92), (20, 0.0, 0.93), (40, 0.4, 0.86)]
)
def test_the_interval_covers_the_true_median(count, drift, least):
    generator = np.random.default_rng(2)
    truth = percentile(np.concatenate(_blocks(generator, 20_000, drift)), 0.5)
    trials = 300
    intervals = (percentile_interval(_blocks(generator, count, drift), 0.5, resamples=300) for _ in range(trials))
    inside = sum(low <= truth <= high for low, high in intervals)
    assert least <= inside / trials <= 0.995


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="at least one finite sample"):
        percentile(np.array([]), 0.5)
    with pytest.raises(ValueError, match="share in"):
        percentile(np.ones(3), 0.0)
    with pytest.raises(ValueError, match="at least 2 blocks, got 1"):
        percentile_interval([np.ones(3)], 0.5)
