from __future__ import annotations

from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from deploykit.stats.multiple_tests import holm


@given(st.lists(st.floats(0, 1), min_size=1, max_size=25), st.sampled_from([0.01, 0.05, 0.2]))
def test_it_agrees_with_statsmodels(p_values, alpha):
    with mock.patch("gc.collect"):  # it collects garbage on every call, of all that the suite holds
        rejected, _, _, _ = multipletests(p_values, alpha, method="holm")
    found = holm(p_values, alpha)
    assert [one.rejected for one in found] == list(rejected)


def test_the_level_of_each_is_told():
    found = holm([0.001, 0.9, 0.02, 0.03], 0.05)
    assert [one.rejected for one in found] == [True, False, False, False]
    assert [one.alpha for one in found] == pytest.approx([0.0125, 0.05 / 3, 0.05 / 3, 0.05 / 3])


def test_nothing_to_test_is_nothing():
    assert holm([]) == []


@pytest.mark.parametrize(("p_values", "alpha"), [([1.1], 0.05), ([float("nan")], 0.05), ([0.5], 0.0)])
def test_numbers_out_of_range_are_refused(p_values, alpha):
    with pytest.raises(ValueError, match="holm needs"):
        holm(p_values, alpha)
