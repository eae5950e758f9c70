from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import bootstrap

from deploykit.stats.paired import bootstrap_mean, score_interval


def differences(lost: int, won: int, n: int) -> np.ndarray:
    return np.concatenate([np.ones(lost), -np.ones(won), np.zeros(n - lost - won)])


def test_it_agrees_with_scipy() -> None:
    values = np.random.default_rng(1).gamma(1.5, size=150) - 1
    theirs = bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", random_state=1).confidence_interval
    ours = bootstrap_mean(values, seed=2, resamples=20_000)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.01)


@settings(max_examples=40)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(80, 400))
def test_it_holds_the_estimate_and_mirrors(lost: int, won: int, n: int) -> None:
    low, high = bootstrap_mean(differences(lost, won, n), resamples=2000)
    assert low <= (lost - won) / n + 1e-12
    assert high >= (lost - won) / n - 1e-12
    wider = bootstrap_mean(differences(lost, won, n), 0.99, resamples=2000)
    narrower = bootstrap_mean(differences(lost, won, n), 0.8, resamples=2000)
    assert wider[0] <= narrower[0] <= narrower[1] <= wider[1]


def test_equal_seeds_give_equal_intervals() -> None:
    values = np.random.default_rng(0).normal(size=500)
    assert bootstrap_mean(values, seed=7) == bootstrap_mean(values, seed=7)
    assert bootstrap_mean(values, seed=7) != bootstrap_mean(values, seed=8)


def test_memory_stays_bounded_for_many_distinct_values() -> None:
    import tracemalloc

    values = np.random.default_rng(0).normal(size=20_000)
    tracemalloc.start()
    low, high = bootstrap_mean(values, resamples=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    half = 1.96 * values.std() / np.sqrt(values.size)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=half / 5)
    assert peak < 120e6


def test_fifty_thousand_images_take_no_longer_than_five_thousand() -> None:
    def cpu_s(n: int) -> float:
        values = differences(900, 700, n)
        start = time.process_time()
        bootstrap_mean(values)
        return time.process_time() - start

    few, many = (min(cpu_s(n) for _ in range(3)) for n in (5000, 50_000))
    assert many < 5 * few  # ten where every image is drawn by itself


@pytest.mark.parametrize("values", [[], [1.0, np.nan], [np.inf]])
def test_values_it_cannot_use_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="at least one finite"):
        bootstrap_mean(np.array(values))


@given(st.integers(0, 60), st.integers(0, 60), st.integers(120, 3000))
def test_score_interval_holds_the_estimate_and_mirrors(lost: int, won: int, n: int) -> None:
    low, high = score_interval(lost, won, n)
    assert -1 <= low <= (lost - won) / n <= high <= 1
    mirrored = score_interval(won, lost, n)
    assert (-mirrored[1], -mirrored[0]) == pytest.approx((low, high), abs=1e-7)


def test_score_interval_without_discordant_images_is_not_certain() -> None:
    square = float(ndtri(0.975)) ** 2
    low, high = score_interval(0, 0, 450)
    assert (low, high) == pytest.approx((-square / (450 + square), square / (450 + square)), abs=1e-8)


def test_score_interval_approaches_the_normal_one() -> None:
    lost, won, n = 900, 700, 20_000
    estimate = (lost - won) / n
    half = 1.96 * np.sqrt((lost + won) / n - estimate**2) / np.sqrt(n)
    assert score_interval(lost, won, n) == pytest.approx((estimate - half, estimate + half), abs=half / 50)


def test_score_interval_covers_where_the_bootstrap_does_not() -> None:
    generator = np.random.default_rng(1)
    truth, score, plain = 0.005, 0, 0
    drawn = generator.multinomial(200, [0.01, 0.005, 0.985], size=600)
    for lost, won, _ in drawn:
        score += score_interval(int(lost), int(won), 200)[1] >= truth
        plain += bootstrap_mean(differences(int(lost), int(won), 200), resamples=1000)[1] >= truth - 1e-12
    assert score / 600 >= 0.94
    assert plain < score


def test_bootstrap_covers_where_it_is_used() -> None:
    generator = np.random.default_rng(2)
    drawn = generator.multinomial(2000, [0.01, 0.005, 0.985], size=500)
    intervals = [bootstrap_mean(differences(int(a), int(b), 2000), resamples=1000) for a, b, _ in drawn]
    assert 0.92 <= np.mean([low <= 0.005 <= high for low, high in intervals]) <= 0.98


@pytest.mark.parametrize("counts", [(-1, 0, 5), (3, 3, 5), (0, 0, 0)])
def test_score_interval_refuses_impossible_counts(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="counts within n"):
        score_interval(*counts)
