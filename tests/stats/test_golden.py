"""Our statistics beside scipy's and statsmodels', and their coverage where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, bootstrap, norm
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.proportion import proportions_ztest

from deploykit.stats.paired import bootstrap_mean, mcnemar, score_interval
from deploykit.stats.percentiles import percentile
from deploykit.stats.proportions import proportion_p
from deploykit.stats.ratio import speed_up_interval


@pytest.mark.parametrize(("first", "second"), [(0, 1), (3, 11), (40, 12), (7, 7), (0, 0), (250, 300)])
def test_mcnemar_is_statsmodels(first, second):
    table = [[1000, first], [second, 50]]
    if first != second:  # the observed outcome counts half
        exact = reference_mcnemar(table, exact=True).pvalue
        assert mcnemar(first, second) == pytest.approx(exact - binom.pmf(first, first + second, 0.5))
    if first + second > 100:  # where the chi-squared approximation holds
        plain = reference_mcnemar(table, exact=False, correction=False).pvalue
        assert mcnemar(first, second) == pytest.approx(plain, abs=2e-3)


def test_the_paired_bootstrap_is_scipys():
    generator = np.random.default_rng(3)
    differences = generator.choice([-1.0, 0.0, 1.0], size=900, p=[0.02, 0.94, 0.04])
    theirs = bootstrap(
        (differences,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1), batch=500
    ).confidence_interval
    ours = bootstrap_mean(differences, 0.95, resamples=20_000)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.0015)


def test_the_paired_bootstrap_covers():
    generator = np.random.default_rng(5)
    inside = 0
    for trial in range(400):
        counts = generator.multinomial(1500, [0.03, 0.02, 0.95])
        differences = np.repeat([1.0, -1.0, 0.0], counts)
        low, high = bootstrap_mean(differences, 0.95, seed=trial, resamples=1000)
        inside += low <= 0.01 <= high
    assert 0.925 <= inside / 400 <= 0.975


def test_tangos_interval_covers_where_hardly_an_image_changes_sides():
    generator = np.random.default_rng(6)
    inside = 0
    for _ in range(600):
        lost, won, _ = generator.multinomial(450, [0.006, 0.004, 0.99])
        low, high = score_interval(int(lost), int(won), 450)
        inside += low <= 0.002 <= high
    assert 0.93 <= inside / 600 <= 0.99


def test_the_ratios_interval_is_the_bootstrap_of_the_median_where_rounds_are_independent():
    generator = np.random.default_rng(8)
    base = np.exp(generator.normal(0, 0.03, 400))
    candidate = np.exp(generator.normal(0, 0.03, 400)) / 1.5
    logs = np.log(base / candidate)
    theirs = bootstrap(
        (logs,), np.median, n_resamples=3000, method="percentile", rng=np.random.default_rng(2), batch=300
    )
    wanted = np.exp([theirs.confidence_interval.low, theirs.confidence_interval.high])
    assert speed_up_interval(base, candidate, resamples=4000) == pytest.approx(tuple(wanted), rel=3e-3)


def test_a_proportions_p_is_statsmodels():
    wanted = proportions_ztest(870, 1000, value=0.85, prop_var=0.85)[1]
    assert proportion_p(870, 1000, 0.85) == pytest.approx(wanted)


def test_percentiles_are_numpys_inverted_cdf():
    samples = norm.rvs(size=777, random_state=4)
    for share in (0.5, 0.9, 0.99, 1.0):
        assert percentile(samples, share) == np.quantile(samples, share, method="inverted_cdf")
