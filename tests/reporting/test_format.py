from __future__ import annotations

import pytest

from deploykit.reporting import format as t
from deploykit.reporting.compare import Ratio
from deploykit.reporting.quality import Parity
from deploykit.reporting.schema import Against


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.000412, "0.000412"),
        (0.0412, "0.0412"),
        (0.4125, "0.412"),
        (4.125, "4.12"),
        (41.26, "41.3"),
        (412.6, "413"),
        (12345.6, "12,346"),
        (-4.5, "−4.50"),
        (1200000000.0, "1.20e+09"),
        (3e-07, "3.00e−07"),
        (1.0, "1.00"),
    ],
)
def test_numbers_keep_three_digits(value: float, shown: str) -> None:
    assert t.number(value) == shown


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (t.percent(0.98667), "98.67 %"),
        (t.percent(None), "–"),
        (t.points(0.222), "+0.22 pt"),
        (t.points(-1.5), "−1.50 pt"),
        (t.points(0.001), "0.00 pt"),
        (t.points(None), "–"),
        (t.ratio(2.412), "2.41×"),
        (t.ratio(None), "–"),
        (t.ratio(0.0873), "0.0873×"),
        (t.ratio_interval(Ratio(1.0, 0.98, 1.02)), "0.980 … 1.02×"),
        (t.size(742_000), "742 kB"),
        (t.size(2_790_112), "2.79 MB"),
        (t.size(999), "999 B"),
        (t.size(None), "–"),
        (t.count(13_100_000), "13.1 M"),
        (t.count(None), "–"),
        (t.milliseconds(0.0), "0 ms"),
        (t.drop_interval(Against(name="x", drop_pt_low=-0.2, drop_pt_high=None)), ""),
        (t.decibels(Parity(reference="eager", n=1, ok=True, snr_db=None, identical=True)), "identical"),
        (t.decibels(Parity(reference="eager", n=1, ok=True, snr_db=-5.9, identical=False)), "−5.9 dB"),
        (t.decibels(None), "–"),
        (t.timed(None), "nothing was timed"),
    ],
)
def test_values_are_shown_as_people_read_them(shown: str, expected: str) -> None:
    assert shown == expected


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"Conv": 1009, "Gemm": 1}, "Conv 1,009, Gemm 1"),
        ({}, "none"),
        (["a", 2], "a, 2"),
        (True, "yes"),
        (None, "–"),
        (0.5, "0.5"),
    ],
)
def test_findings_of_an_audit_are_no_python(value: object, shown: str) -> None:
    assert t.listed(value) == shown
