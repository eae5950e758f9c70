from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from deploykit.evaluation.accuracy import changed_by_class, confusion, most_confused, negative_flips
from deploykit.evaluation.agreement import agreement, compare
from deploykit.evaluation.confidence import confidences, reliability


@pytest.fixture
def made() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(5)
    labels = generator.integers(0, 7, 600)
    base = generator.normal(size=(600, 7)).astype(np.float32)
    base[np.arange(600), labels] += 1.5
    return base + generator.normal(0, 0.7, base.shape).astype(np.float32), base, labels


def test_confusion_equals_scikit_learn(made) -> None:
    logits, _, labels = made
    predicted = logits.argmax(1)
    matrix = confusion(predicted, labels, 7)
    assert np.array_equal(matrix, confusion_matrix(labels, predicted, labels=range(7)))
    worst = most_confused(matrix, tuple("abcdefg"), most=3)
    off = matrix - np.diag(np.diag(matrix))
    assert [one["n"] for one in worst] == sorted(off.ravel().tolist(), reverse=True)[:3]
    assert off["abcdefg".index(worst[0]["label"]), "abcdefg".index(worst[0]["predicted"])] == worst[0]["n"]
    assert most_confused(np.diag([3, 4]), ("a", "b")) == []


def test_flips_and_agreement_by_class_add_up_to_the_whole(made) -> None:
    logits, base, labels = made
    ours, theirs = logits.argmax(1), base.argmax(1)
    by_class, n = changed_by_class(ours, theirs, labels, 7), np.bincount(labels, minlength=7)
    whole = agreement(logits, base, labels)
    assert (by_class["agreement"] * n).sum() / 600 == pytest.approx(whole["agreement"])
    assert (by_class["negative_flips"] * n).sum() / 600 == pytest.approx(whole["negative_flips"])
    assert compare(ours, theirs, labels) == whole


def test_flipped_images_are_those_the_baseline_had_right_the_surest_first(made) -> None:
    logits, base, labels = made
    theirs = base.argmax(1)
    found = negative_flips(logits, theirs, labels, most=10_000)
    rows = np.flatnonzero((theirs == labels) & (logits.argmax(1) != labels))
    assert sorted(one["row"] for one in found) == rows.tolist()
    sure = [one["confidence"] for one in found]
    assert sure == sorted(sure, reverse=True)
    assert found[0]["confidence"] == pytest.approx(confidences(logits)[found[0]["row"]])
    assert negative_flips(logits, theirs, labels, most=2) == found[:2]
    assert negative_flips(base, theirs, labels, most=2) == []


def test_the_reliability_curve_holds_every_image_once_and_sums_to_the_error(made) -> None:
    logits, _, labels = made
    found = reliability(logits, labels)
    curve = found.curve()
    assert sum(one["n"] for one in curve) == 600
    gap = sum(one["n"] * abs(one["confidence"] - one["accuracy"]) for one in curve) / 600
    assert gap == pytest.approx(found.ece)
    for one in curve:
        assert one["low"] - 1e-6 <= one["confidence"] <= one["high"] + 1e-6
    right = sum(one["n"] * one["accuracy"] for one in curve) / 600
    assert right == pytest.approx(np.mean(logits.argmax(1) == labels))
