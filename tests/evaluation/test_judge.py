from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from deploykit.evaluation.confident_answers import Answers, answers_of
from deploykit.evaluation.judge import Bars, Drop, Verdict, judge, judged_again, settles, verdict_of
from deploykit.evaluation.parity_meter import compare


def logits(n: int = 400, sure: float = 8.0, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    made = random.normal(size=(n, 10))
    made[np.arange(n), random.integers(10, size=n)] += sure
    return made


def verdict(changed: int, n: int = 400, *, precision: str = "int8", bars: Bars | None = None) -> Verdict:
    """Of a candidate that answers otherwise on ``changed`` images, all of them confident, and is else near."""
    reference = logits(n)
    candidate = reference + np.random.default_rng(1).normal(size=reference.shape) * 0.01
    for row in range(changed):
        best, second = np.argsort(reference[row])[[-1, -2]]
        candidate[row, second] = reference[row, best] + 0.1
    found = compare(reference, candidate, precision)
    return judge(found, found.answers, precision, bars or Bars())


@pytest.mark.parametrize(("changed", "status"), [(4, "ok"), (35, "unsure"), (80, "failed")])
def test_the_interval_of_confident_answers_decides_int8(changed: int, status: str) -> None:
    found = verdict(changed)
    assert found.status == status
    assert found.confident is not None
    assert (found.confident.n, found.confident.kept) == (400, 400 - changed)
    assert (found.confident.low or 0) < 1 - changed / 400 <= (found.confident.high or 0)
    assert bool(found.reasons) == (status != "ok")
    assert (found.more_images is not None) == (status == "unsure")


def test_as_many_images_more_as_it_says_settle_it() -> None:
    found = verdict(35)
    assert found.more_images is not None
    n = 400 + found.more_images
    assert settles("int8", Bars())(Answers(n=n, confident=n, kept=round(n * 365 / 400)))
    n -= 400
    assert not settles("int8", Bars())(Answers(n=n, confident=n, kept=round(n * 365 / 400)))


def test_few_confident_images_cannot_tell() -> None:
    assert verdict(0, 29).status == "unsure"
    assert verdict(0, 60).status == "ok"
    unsure_itself = np.random.default_rng(0).normal(size=(500, 10)) * 0.1
    found = compare(unsure_itself, unsure_itself + 1e-4, "int8")
    told = judge(found, found.answers, "int8")
    assert told.status == "unsure"
    assert told.confident is not None
    assert told.confident.n == 0
    assert told.more_images is None


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_float_formats_are_decided_by_snr_alone(precision: str) -> None:
    reference = logits()
    found = compare(reference, reference * (1 + 1e-6), precision)
    flips = Answers(n=400, same=200, confident=400, kept=200)
    assert judge(found, flips, precision).status == "ok"
    assert judge(found, flips, precision, Bars(min_agreement=0.9)).status == "failed"
    assert judge(compare(reference, reference * 0.5, precision), None, precision).status == "failed"


def test_without_answers_parity_alone_decides() -> None:
    maps = np.random.default_rng(0).normal(size=(8, 3, 8, 8))
    found = compare(maps, maps * 1.01, "int8")
    told = judge(found, found.answers, "int8")
    assert (told.status, told.agreement, told.confident) == ("ok", None, None)
    assert judge(compare(maps, -maps, "int8"), None, "int8").status == "failed"
    few = compare(maps[:3], maps[:3] * 1.01, "int8")
    assert (judge(few, None, "int8").status, judge(few, None, "int8").more_images) == ("unsure", 5)
    assert judge(compare(maps[:3], -maps[:3], "int8"), None, "int8").status == "failed"
    assert judge(compare(maps[:3], maps[:3] * (1 + 1e-6), "fp32"), None, "fp32").status == "ok"


def test_what_is_broken_no_bar_lifts() -> None:
    reference = logits()
    candidate = reference.copy()
    candidate[3, 3] = np.nan
    found = compare(reference, candidate, "int8")
    told = judge(found, found.answers, "int8", Bars(min_agreement=0.0, min_snr_db=-300))
    assert told.status == "failed"
    assert "NaN" in told.reasons[0]


def test_bars_by_hand_decide_and_can_be_changed_without_running_again() -> None:
    found = verdict(35)
    assert judged_again(found, Bars(min_agreement=0.8)).status == "ok"
    assert judged_again(found, Bars(min_agreement=0.97)).status == "failed"
    assert judged_again(found, Bars(min_snr_db=200)).status == "failed"
    weak = judge(compare(logits(), logits() * 0.6, "int8"), None, "int8")
    assert weak.status == "failed"
    assert judged_again(weak, Bars(min_snr_db=5)).status == "ok"


def test_accepted_is_used_and_its_status_stays() -> None:
    for changed in (35, 80):
        found = verdict(changed, bars=Bars(accept=True))
        assert found.status != "ok"
        assert (found.accepted, found.ok) == (True, True)
    assert not verdict(0, bars=Bars(accept=True)).accepted


@pytest.mark.parametrize(
    ("drop", "status"), [((0.2, -0.1, 0.9), "ok"), ((0.8, 0.1, 1.5), "unsure"), ((3, 2, 4), "failed")]
)
def test_a_measured_drop_is_held_to_its_bar(drop: tuple[float, float, float], status: str) -> None:
    seen = replace(verdict(0), drop=Drop(*drop, n=400))
    assert judged_again(seen, Bars(max_drop_pt=1.0)).status == status
    assert judged_again(seen, Bars()).status == "ok"


def test_a_verdict_is_read_back_as_it_was_written() -> None:
    for found in (verdict(35), replace(verdict(4), drop=Drop(0.1, 0.0, 0.2, 400), split="train")):
        assert verdict_of(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found


def test_probabilities_are_taken_as_they_are() -> None:
    raw = logits(60)
    probabilities = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    assert answers_of(probabilities, probabilities).confident == answers_of(raw, raw).confident == 60


def test_a_tie_counts_as_kept() -> None:
    even = np.array([[1.0, 1.0 - 1e-9]] * 40)
    found = answers_of(even, even[:, ::-1])
    assert (found.same, found.ties, found.confident, found.kept) == (0, 40, 40, 40)
