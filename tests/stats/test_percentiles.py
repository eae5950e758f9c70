"""Percentiles of pooled samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploykit.stats.percentiles import percentile, percentile_interval

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


@given(st.lists(samples, min_size=2, max_size=6), st.sampled_from([0.5, 0.9]))
def test_resampling_agrees_with_doing_it_by_hand(blocks, share):
    arrays = [np.array(block) for block in blocks]
    low, high = percentile_interval(arrays, share, seed=5, resamples=60)
    generator = np.random.default_rng(5)
    counts = generator.multinomial(len(arrays), np.full(len(arrays), 1 / len(arrays)), size=60)
    by_hand = [
        percentile(np.concatenate([array for array, k in zip(arrays, row, strict=True) for _ in range(k)]), share)
        for row in counts
    ]
    assert (low, high) == pytest.approx(tuple(np.quantile(by_hand, [0.025, 0.975])))


def test_blocks_that_differ_widen_the_interval():
    generator = np.random.default_rng(0)
    alike = [generator.normal(10, 1, 50) for _ in range(20)]
    different = [block + generator.normal(0, 3) for block in alike]
    low, high = percentile_interval(alike, 0.5)
    wide_low, wide_high = percentile_interval(different, 0.5)
    assert wide_high - wide_low > 3 * (high - low)


def test_the_interval_covers_the_true_median():
    generator = np.random.default_rng(2)
    inside = 0
    for _ in range(200):
        blocks = [generator.normal(5 + generator.normal(0, 0.5), 0.2, 20) for _ in range(30)]
        low, high = percentile_interval(blocks, 0.5, resamples=200)
        inside += low <= 5 <= high
    assert inside / 200 >= 0.88


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="at least one finite sample"):
        percentile(np.array([]), 0.5)
    with pytest.raises(ValueError, match="share in"):
        percentile(np.ones(3), 0.0)
    with pytest.raises(ValueError, match="at least 2 blocks, got 1"):
        percentile_interval([np.ones(3)], 0.5)
