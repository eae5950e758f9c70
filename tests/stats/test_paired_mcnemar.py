from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from deploykit.stats.paired import mcnemar

COUNTS = st.integers(0, 400)


@given(COUNTS, COUNTS)
def test_it_is_the_exact_test_with_the_observed_outcome_counted_half(first: int, second: int) -> None:
    p, total = mcnemar(first, second), first + second
    exact = binomtest(first, total, 0.5).pvalue if total else 1.0
    assert p == mcnemar(second, first)
    assert 0 <= p <= exact <= 1
    if first != second:
        assert p == pytest.approx(exact - comb(total, first) / 2**total, abs=1e-9)


def test_the_published_example() -> None:
    # Fagerland et al. 2013, table 3 (airway hyper-responsiveness, 1 against 7 discordant).
    assert mcnemar(1, 7) == pytest.approx(0.0391, abs=5e-5)


def test_no_disagreement_is_no_evidence() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 5) == 1.0


def test_mid_p_keeps_its_level() -> None:
    generator = np.random.default_rng(0)
    table = {}
    alarms = 0
    for _ in range(4000):
        first = int(generator.binomial(60, 0.25))
        second = int(generator.binomial(60 - first, 1 / 3))
        alarms += table.setdefault((first, second), mcnemar(first, second)) < 0.05
    assert 0.035 <= alarms / 4000 <= 0.058


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 0, got -1 and 3"):
        mcnemar(-1, 3)
