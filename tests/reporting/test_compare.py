"""Several reports beside each other: ratios only, one machine at a time, and what cannot be compared is said."""

from __future__ import annotations

from typing import Any

import pytest

from deploykit.base.errors import BadInput
from deploykit.reporting.compare import Change, Comparison, compare
from deploykit.reporting.compare_pages import headline, to_html, to_markdown
from deploykit.reporting.read import validate
from deploykit.reporting.schema import Report
from tests.reporting import sample


def made(month: int, count: int = 4, *, factor: float = 1.0, machine: str | None = None, **changes: Any) -> Report:
    """A report of which ``int8`` is ``factor`` times as fast against fp32 as in the sample."""
    report = sample.report(count, samples=False)
    report |= {"created": f"2026-{month:02d}-01T00:00:00+00:00", "noise_floor_ratio": 0.002, **changes}
    if machine:
        report["environment"]["cpu"]["model"] = machine
    for variant in report["variants"]:
        if variant["name"] == "int8":
            variant["speedup"] = {
                key: value if key == "of" else value * factor for key, value in variant["speedup"].items()
            }
    return validate(report)


def change(found: Comparison, name: str) -> Change:
    return next(one for one in found.changes if one.name == name)


def test_the_order_is_that_of_time_whatever_the_order_given():
    found = compare([made(3), made(1), made(2)], ["c", "a", "b"])
    assert [run.label for run in found.runs] == ["a", "b", "c"]
    assert found.reference == "fp32"
    assert found.warnings == []


def test_a_slower_variant_is_found_by_its_ratio():
    found = compare([made(1), made(2, factor=0.9)], ["a", "b"])
    speed = change(found, "int8").speed
    assert speed.estimate == pytest.approx(0.9)
    assert (speed.verdict, speed.low < 0.9 < speed.high < 1) == ("slower", True)
    assert change(found, "compiled").speed.verdict == "no change shown"
    assert change(found, "fp32").speed is None
    assert headline(found) == "2 reports: int8 is 10.0 % slower than at first, measured against fp32."
    assert "int8 is 10.0 % slower" in to_markdown(found)


def test_the_noise_floor_counts():
    quiet = compare([made(1), made(2, factor=0.97)], ["a", "b"])
    noisy = compare([made(1, noise_floor_ratio=0.05), made(2, factor=0.97, noise_floor_ratio=0.05)], ["a", "b"])
    assert change(quiet, "int8").speed.verdict == "slower"
    assert change(noisy, "int8").speed.verdict == "no change shown"


def test_milliseconds_are_never_compared():
    slow = made(2)
    for variant in slow.variants:
        for timing in variant.measurements:
            for key in ("p50_ms", "p50_ms_low", "p50_ms_high", "p90_ms", "p99_ms", "mean_ms"):
                setattr(timing, key, 3 * getattr(timing, key))
    found = compare([made(1), slow], ["a", "b"])
    assert change(found, "int8").speed.estimate == pytest.approx(1.0)
    assert "_ms" not in str(found.variants)


def test_changes_are_told_within_a_machine():
    found = compare(
        [made(1, factor=2.0), made(2, machine="another"), made(3, machine="another", factor=0.8)], ["a", "b", "c"]
    )
    assert "2 different machines" in found.warnings[0]
    one = change(found, "int8")
    assert (one.first, one.last, one.same_machine) == (2, 3, True)
    assert one.speed.estimate == pytest.approx(0.8)
    apart = compare([made(1), made(2, machine="another", factor=0.5)], ["a", "b"])
    assert change(apart, "int8").same_machine is False
    assert "no variant's speed changed" in headline(apart)
    assert "another machine" in to_markdown(apart)


def test_other_images_are_not_compared():
    other = made(2)
    other.data.sha256 = "77" * 32
    found = compare([made(1), other], ["a", "b"])
    assert change(found, "int8").top1_pt is None
    assert any("different images" in one for one in found.warnings)


def test_another_measurement_is_left_out():
    batched = made(2)
    for variant in batched.variants:
        for one in [*variant.measurements, *([variant.speedup.of] if variant.speedup else [])]:
            one.batch = 8
    found = compare([made(1), made(3), batched], ["a", "c", "b"])
    assert any("run 2 timed something else" in one for one in found.warnings)
    assert next(one for one in found.variants if one.name == "int8").points[1].speedup is None


def test_another_baseline_gives_a_ratio_of_medians_without_an_interval():
    other = made(3, baseline="eager")
    found = compare([made(1), made(2), other], ["a", "b", "c"])
    point = next(one for one in found.variants if one.name == "int8").points[2]
    assert point.speedup.low is None
    assert point.speedup.estimate == pytest.approx(0.981 / 0.407)
    assert change(found, "int8").speed.verdict == "no interval"
    assert any("without an interval" in one for one in found.warnings)


def test_variants_come_and_go():
    found = compare([made(1, 4), made(2, 6)], ["a", "b"])
    new = next(one for one in found.variants if one.name == "pruned50")
    assert new.points[0] is None
    assert all(one.name != "pruned50" for one in found.changes)
    failed = made(2)
    failed.variants[3].status, failed.variants[3].reason, failed.variants[3].speedup = "failed", "NaN", None
    assert change(compare([made(1), failed], ["a", "b"]), "int8").status == "ok → failed"


def test_nothing_in_common_is_refused():
    one, other = made(1, 1), made(2, 1)
    other.variants[0].name = other.baseline = "alien"
    with pytest.raises(BadInput, match=r"nothing in common; got eager, alien"):
        compare([one, other], ["a", "b"])


def test_the_page_needs_no_network_and_texts_stay_texts():
    evil = "<script>alert(1)</script>|@all"
    found = compare([made(1), made(2, machine=evil)], [evil, "b"])
    page = to_html(found)
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")
    assert page.count("<svg") == 2
    assert "<script" not in to_markdown(found)
    assert "@all" not in to_markdown(found)
