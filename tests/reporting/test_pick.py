from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploykit.reporting import pareto, pick, primary, primary_measurement, settle, validate, why_no_pick
from deploykit.reporting.schema import Against, Of, Report, Variant
from tests.reporting import sample


def report(count: int = 6) -> Report:
    return Report.model_validate(sample.report(count))


def by_name(report: Report, name: str) -> Variant:
    found = report.variant(name)
    assert found is not None
    return found


def change_of(report: Report, change: dict[str, Any]) -> None:
    for name, value in change.items():
        setattr(by_name(report, "int8"), name, value)


def test_the_primary_measurement_is_the_one_of_the_speed_ups() -> None:
    made = report()
    for variant in made.variants:
        variant.measurements.reverse()
    assert primary(made) == Of(**sample.OF)
    assert primary_measurement(made, by_name(made, "int8")).timed == "compute"
    for variant in made.variants:
        variant.speedup = None
    assert primary(made).timed == "end_to_end"
    assert primary(Report.model_validate(sample.all_failed())) is None


def test_the_front_holds_what_nobody_beats() -> None:
    made = report(6)
    assert pareto(made) == ["pruned50-int8", "int8", "fp32"]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=15))
def test_the_front_equals_its_definition(pairs: list[tuple[int, int]]) -> None:
    made = report(len(pairs))
    for variant, (p50, top1) in zip(made.variants, pairs, strict=True):
        variant.measurements[0].p50_ms = float(p50)
        variant.quality.value = top1 / 10
    names = [variant.name for variant in made.variants]
    expected = {
        name
        for name, (p, a) in zip(names, pairs, strict=True)
        if not any(q <= p and b >= a and (q < p or b > a) for q, b in pairs)
    }
    assert set(pareto(made)) == expected


@pytest.mark.parametrize("change", [{"status": "failed"}, {"measurements": []}, {"quality": None}, {"parity": None}])
def test_what_failed_or_was_not_measured_is_not_on_the_front(change: dict[str, Any]) -> None:
    made = report(6)
    change_of(made, change)
    assert "int8" not in pareto(made)


def test_the_pick_is_the_fastest_whose_bound_fits() -> None:
    made = report(6)
    assert pick(made, 0.5).name == "fp32"
    assert pick(made, 1.0).name == "int8"
    assert pick(made, 1.2).name == "pruned50-int8"
    why = pick(made, 1.0).why
    assert why.startswith("the fastest verified variant whose drop stays within 1 pt: 2.41× (95 % interval 2.37")
    assert "top-1 98.67 %, drop +0.22 pt (−0.23 … +0.68 pt)" in why


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "failed", "reason": "NaN"}, "int8 failed"),
        ({"status": "skipped", "reason": "no GPU"}, "int8 skipped"),
        ({"parity": None}, "int8 is not verified"),
        ({"quality": None}, "int8 has no quality to compare"),
        ({"status": "unsure", "reason": "25 of 27 confident answers kept"}, "int8 unsure"),
        ({"measurements": [], "speedup": None}, "int8 was not timed"),
    ],
)
def test_what_is_not_verified_timed_and_compared_is_never_the_pick(change: dict[str, Any], reason: str) -> None:
    made = report(6)
    change_of(made, change)
    assert pick(made, 1.0).name == "pruned50"
    made.variants = [by_name(made, "int8")]
    assert pick(made, 1.0) is None
    assert reason in why_no_pick(made, 1.0)


@pytest.mark.parametrize(
    ("speedup", "why"),
    [
        ((1.004, 1.001, 1.007), "its speed, within the noise floor of 0.61 %"),
        ((1.05, 0.99, 1.11), "its speed, which does not exclude 1"),
        ((0.97, 0.95, 0.98), None),
    ],
)
def test_what_is_not_clearly_faster_leaves_the_baseline(speedup: tuple[float, ...], why: str | None) -> None:
    made = report(4)
    made.variants = [one for one in made.variants if one.name in ("fp32", "int8")]
    for name, value in zip(("estimate", "low", "high"), speedup, strict=True):
        setattr(by_name(made, "int8").speedup, name, value)
    chosen = pick(made, 1.0)
    assert chosen.name == "fp32"
    nothing = "no verified variant within 1 pt of the baseline's top-1 is faster than the baseline itself"
    begin = nothing if why is None else f"{nothing} beyond doubt: int8 has {speedup[0]:.2f}× (95 % interval "
    assert chosen.why.startswith(begin)
    assert chosen.why.endswith(why or "itself")


def test_the_clearly_faster_one_goes_before_the_doubtful_one() -> None:
    made = report(6)
    by_name(made, "int8").speedup.low = 0.9
    assert pick(made, 1.0).name == "pruned50"


def test_without_a_timed_baseline_the_fastest_is_the_pick() -> None:
    made = report(6)
    by_name(made, "fp32").measurements = []
    by_name(made, "fp32").status = "skipped"
    by_name(made, "int8").speedup.low = 0.9
    assert pick(made, 1.0).name == "int8"


def test_against_a_failed_baseline_nothing_is_picked() -> None:
    made = report(6)
    base = by_name(made, "fp32")
    base.status, base.reason = "failed", "SNR 12 dB"
    assert pick(made) is None
    assert "fp32 failed" in settle(made).warnings[-1]
    base.accepted = True
    assert pick(made).name == "int8"


@pytest.mark.parametrize("status", ["unsure", "failed"])
def test_what_a_person_accepts_may_be_the_pick_and_is_named_as_such(status: str) -> None:
    made = report(6)
    change_of(made, {"status": status, "reason": "9.1 dB", "accepted": True})
    by_name(made, "int8").parity.ok = False
    chosen = pick(made, 1.0)
    assert (chosen.name, f"({status}, accepted)" in chosen.why) == ("int8", True)
    assert "int8" in pareto(made)
    assert validate(settle(made).plain()).pick.name == "int8"
    assert pick(made, 0.5).name == "fp32"  # accepting says nothing of the budget


@pytest.mark.parametrize("change", [{"status": "ok"}, {"status": "skipped", "reason": "no GPU"}])
def test_accepting_changes_nothing_of_what_is_ok_or_was_not_run(change: dict[str, Any]) -> None:
    made = report(6)
    before = pick(made, 1.0)
    change_of(made, {**change, "accepted": True})
    assert (pick(made, 1.0) == before) == (change["status"] == "ok")


def test_a_failed_parity_rules_out() -> None:
    made = report(6)
    by_name(made, "int8").parity.ok = False
    assert pick(made, 1.0).name != "int8"


def test_the_reference_needs_no_parity_with_itself() -> None:
    made = report(1)
    made.baseline = "eager"
    assert pick(made).name == "eager"
    made.variants[0].target = "ort-cpu"
    assert pick(made) is None


def test_a_bound_that_was_not_measured_is_no_pass() -> None:
    made = report(6)
    by_name(made, "int8").quality.drop_pt_high = None
    assert pick(made, 1.0).name != "int8"


def test_no_pick_says_why_as_a_warning() -> None:
    made = report(6)
    for variant in made.variants:
        variant.parity = (variant.parity or report().variants[1].parity).model_copy(update={"ok": False})
    settled = settle(made, 1.0)
    assert settled.pick is None
    assert settled.pareto == []
    assert settled.warnings[-1].startswith("no variant is verified, timed and within 1 pt: eager is not verified")


def test_without_any_timing_nothing_is_missed() -> None:
    made = report(3)
    for variant in made.variants:
        variant.measurements, variant.speedup = [], None
    made.warnings = []
    assert settle(made).warnings == []
    assert settle(made).pick is None


def test_settling_changes_no_input() -> None:
    made = report(3)
    before = repr(made)
    settle(made, 0.1)
    assert repr(made) == before


def test_the_other_side_of_a_comparison_is_never_picked() -> None:
    made = report(4)
    best = made.pick.name
    assert pick(made).name == best
    made.variants[0].against = Against(name=best)
    assert pick(made).name != best
