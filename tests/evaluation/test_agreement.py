from __future__ import annotations

import numpy as np
import pytest

from deploykit.evaluation.agreement import FEW_DISCORDANT, agreement
from deploykit.stats.paired import mcnemar, score_interval


def answers(right: np.ndarray, labels: np.ndarray, wrong_shift: int = 1) -> np.ndarray:
    """Logits of a model that is right exactly where ``right`` says."""
    guessed = np.where(right, labels, (labels + wrong_shift) % 10)
    return np.eye(10, dtype=np.float32)[guessed] * 5


LABELS = np.arange(1000) % 10


def pair(lost: int, won: int, both_wrong: int = 20) -> tuple[np.ndarray, np.ndarray]:
    base, ours = np.ones(1000, dtype=bool), np.ones(1000, dtype=bool)
    ours[:lost] = False
    base[lost : lost + won] = False
    ours[-both_wrong:] = base[-both_wrong:] = False
    return answers(ours, LABELS), answers(base, LABELS)


def test_a_drop_is_positive_when_worse() -> None:
    worse = agreement(*pair(30, 10), LABELS)
    assert worse["drop_pt"] == pytest.approx(2.0)
    assert worse["drop_pt_low"] < 2.0 < worse["drop_pt_high"]
    assert worse["negative_flips"] == pytest.approx(0.03)
    assert worse["agreement"] == pytest.approx(0.96)
    assert worse["mcnemar_p"] == mcnemar(30, 10)
    assert worse["drop_interval"] == "bootstrap"
    assert agreement(*pair(10, 30), LABELS)["drop_pt"] == pytest.approx(-2.0)


def test_equal_accuracy_still_shows_its_flips() -> None:
    found = agreement(*pair(25, 25), LABELS)
    assert found["drop_pt"] == 0
    assert found["drop_pt_low"] < 0 < found["drop_pt_high"]
    assert (found["agreement"], found["negative_flips"]) == pytest.approx((0.95, 0.025))
    assert found["mcnemar_p"] == 1.0


def test_wrong_in_two_ways_is_disagreement_without_a_flip() -> None:
    right = np.ones(1000, dtype=bool)
    right[:50] = False
    found = agreement(answers(right, LABELS, 2), answers(right, LABELS, 1), LABELS)
    assert found["agreement"] == pytest.approx(0.95)
    assert found["negative_flips"] == 0


def test_a_handful_of_changes_gets_the_score_interval() -> None:
    found = agreement(*pair(2, 1), LABELS)
    assert found["drop_interval"] == "score"
    low, high = score_interval(2, 1, 1000)
    assert (found["drop_pt_low"], found["drop_pt_high"]) == pytest.approx((100 * low, 100 * high))
    assert agreement(*pair(FEW_DISCORDANT, 0), LABELS)["drop_interval"] == "bootstrap"


def test_equal_answers_leave_room_for_doubt_but_identical_logits_do_not() -> None:
    ours, base = pair(0, 0)
    same = agreement(base.copy(), base, LABELS)
    assert (same["drop_pt_low"], same["drop_pt_high"], same["drop_interval"]) == (0, 0, "exact")
    close = agreement(ours * 1.001, base, LABELS)
    assert close["agreement"] == 1
    assert close["drop_pt_high"] > 0.3


def test_the_seed_decides_the_interval() -> None:
    ours, base = pair(30, 10)
    assert agreement(ours, base, LABELS, seed=1) == agreement(ours, base, LABELS, seed=1)
