"""The speed-up as a distribution: it agrees with its interval, keeps its level, and pools honestly."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from deploykit.stats.multiple_tests import factor_needed
from deploykit.stats.ratio import change, log_ratio, normal_ratio, pooled, speed_up_interval


def _pair(seed: int, true: float = 1.0, rounds: int = 60, spread: float = 0.02):
    generator = np.random.default_rng(seed)
    drift = np.exp(generator.normal(0, 0.02, rounds).cumsum())
    return drift * np.exp(generator.normal(0, spread, rounds)), drift / true * np.exp(
        generator.normal(0, spread, rounds)
    )


def test_the_interval_is_that_of_the_report():
    base, candidate = _pair(1, 1.3)
    found = log_ratio(base, candidate, resamples=4000)
    wanted = speed_up_interval(base, candidate, 0.95, resamples=4000)
    assert tuple(np.exp(found.interval(0.95))) == pytest.approx(wanted, rel=4e-3)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_a_bound_of_the_interval_has_the_matching_p(level):
    found = log_ratio(*_pair(2))
    for bound in found.interval(level):
        assert (1 - level) * 0.98 <= found.p_value(bound) <= (1 - level) * 1.5  # draws on the bound count as beyond


def test_p_falls_with_the_distance_and_beyond_every_draw():
    found = log_ratio(*_pair(3))
    limits = found.estimate + np.array([0.0, 0.005, 0.01, 0.02, 0.05, 0.5])
    p_values = [found.p_value(limit) for limit in limits]
    assert p_values == sorted(p_values, reverse=True)
    assert p_values[0] == 1.0
    assert p_values[-1] < 1e-6
    low, high = found.interval(1 - 1e-7)
    assert low < found.draws[0]
    assert high > found.draws[-1]


def test_it_keeps_its_level_under_drift():
    trials = 300
    alarms = sum(log_ratio(*_pair(seed, 1.3), resamples=400).p_value(np.log(1.3)) < 0.05 for seed in range(trials))
    assert alarms / trials <= 0.08


def test_four_rounds_have_no_interval():
    found = log_ratio(np.ones(4), np.ones(4))
    assert not found.known
    assert found.rounds == 4


def test_equal_blocks_are_beyond_doubt():
    found = log_ratio(np.full(20, 2.0), np.full(20, 1.0))
    assert found.interval(0.95) == pytest.approx((np.log(2), np.log(2)))
    assert found.p_value(np.log(1.9)) == 0.0


def test_more_rounds_narrow_it_as_the_root():
    found = log_ratio(*_pair(4))
    low, high = found.interval(0.95)
    wide = found.grown(4.0).interval(0.95)
    assert (wide[1] - wide[0]) / (high - low) == pytest.approx(0.5, rel=0.1)
    factor = factor_needed(lambda k: found.grown(k).p_value(found.estimate + 0.003), 0.01)
    assert factor is not None
    assert factor > 1


def test_measurements_that_agree_pool_to_a_narrower_interval():
    parts = [log_ratio(*_pair(10), seed=seed) for seed in range(4)]
    both = pooled(parts)
    assert both.rounds == 240
    width = np.diff(parts[0].interval(0.95))[0]
    assert np.diff(both.interval(0.95))[0] == pytest.approx(width / 2, rel=0.2)


def test_pooled_measurements_cover_what_processes_differ_in():
    generator, inside, trials = np.random.default_rng(7), 0, 200
    for trial in range(trials):
        parts = []
        for session in range(3):
            apart = float(np.exp(generator.normal(0, 0.03)))  # a process keeps its own speed for all its life
            parts.append(log_ratio(*_pair(1000 * trial + session, 1.3 * apart), resamples=300))
        low, high = pooled(parts).interval(0.95)
        inside += low <= np.log(1.3) <= high
    assert inside / trials >= 0.85


def test_measurements_that_disagree_claim_little():
    apart = [log_ratio(*_pair(10, 1.0)), log_ratio(*_pair(11, 1.2))]
    low, high = pooled(apart).interval(0.95)
    assert low < 0 < np.log(1.2) < high
    assert pooled(apart[:1]) is apart[0]


def test_a_change_between_two_reports_has_both_variances():
    new, old = log_ratio(*_pair(5, 1.2)), log_ratio(*_pair(6, 1.5))
    found = change(new, old)
    assert found.estimate == pytest.approx(new.estimate - old.estimate)
    assert found.draws.std() == pytest.approx(np.hypot(new.draws.std(), old.draws.std()), rel=0.05)
    assert not change(new, log_ratio(np.ones(3), np.ones(3))).known


def test_a_stated_interval_is_taken_as_log_normal():
    found = normal_ratio(1.2, 1.1, 1.2**2 / 1.1, 0.95, 40)
    assert tuple(np.exp(found.interval(0.95))) == pytest.approx((1.1, 1.2**2 / 1.1), rel=1e-3)
    z = (np.log(1.2) - np.log(1.0)) / (np.log(1.2 / 1.1) / norm.ppf(0.975))
    assert found.p_value(0.0) == pytest.approx(2 * norm.sf(z), rel=0.5)


def test_an_independent_error_adds_its_variance():
    found = log_ratio(*_pair(4))
    wide = found.widened(0.03)
    assert wide.draws.std() == pytest.approx(np.hypot(found.draws.std(), 0.03))
    assert found.widened(0.0) is found
    certain = log_ratio(np.full(20, 2.0), np.full(20, 1.0)).widened(0.03)
    assert certain.draws.std() == pytest.approx(0.03, rel=0.01)
