from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from deploykit.evaluation.accuracy import (
    accuracy,
    class_table,
    per_class,
    predictions,
    top_k,
)
from deploykit.evaluation.confidence import are_probabilities, reliability


def made(seed: int, n: int = 300, classes: int = 12, signal: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes - 2, n)
    logits = generator.normal(size=(n, classes)).astype(np.float32)
    logits[np.arange(n), labels] += signal
    return logits, labels


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.floats(0, 5))
def test_the_scores_equal_scikit_learn(seed: int, signal: float) -> None:
    logits, labels = made(seed, signal=signal)
    found, guessed = accuracy(logits, labels), logits.argmax(axis=1)
    assert found["top1"] == pytest.approx(metrics.accuracy_score(labels, guessed))
    expected = metrics.top_k_accuracy_score(labels, logits, k=5, labels=np.arange(12))
    assert found["top5"] == pytest.approx(expected)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, guessed, average="macro", zero_division=0
    )
    assert (found["macro_precision"], found["macro_recall"], found["macro_f1"]) == pytest.approx(
        (precision, recall, f1)
    )
    assert found["top1_low"] <= found["top1"] <= found["top1_high"]


def test_calibration_equals_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits, labels = made(3, n=2000)
    theirs = multiclass_calibration_error(
        torch.tensor(logits).softmax(1), torch.tensor(labels), 12, n_bins=15, norm="l1"
    )
    assert reliability(logits, labels).ece == pytest.approx(float(theirs), abs=1e-5)


def test_calibration_of_known_cases() -> None:
    sure = np.array([[100.0, 0], [100.0, 0]], dtype=np.float32)
    assert reliability(sure, np.array([0, 0])).ece == pytest.approx(0)
    assert reliability(sure, np.array([1, 1])).ece == pytest.approx(1)
    assert reliability(sure, np.array([0, 1])).ece == pytest.approx(0.5)


def test_probabilities_are_not_softmaxed_twice() -> None:
    logits, labels = made(4)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert are_probabilities(shares)
    assert not are_probabilities(logits)
    assert reliability(shares, labels).ece == pytest.approx(reliability(logits, labels).ece, abs=1e-4)


def test_a_tie_goes_to_the_lower_index() -> None:
    tied = np.zeros((3, 8), dtype=np.float32)
    assert predictions(tied).tolist() == [0, 0, 0]
    assert top_k(tied, np.array([0, 4, 5]), 1) == pytest.approx(1 / 3)
    assert top_k(tied, np.array([0, 4, 5]), 5) == pytest.approx(2 / 3)


def test_top_one_of_both_ways_agree() -> None:
    logits, labels = made(5)
    assert top_k(logits, labels, 1) == accuracy(logits, labels)["top1"]


def test_top_five_says_nothing_below_six_classes() -> None:
    logits, labels = made(6, classes=5)
    assert accuracy(logits, labels)["top5"] is None


def test_classes_are_scored_one_by_one() -> None:
    guessed, labels = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    scores = per_class(guessed, labels, 3)
    assert scores["n"].tolist() == [1, 3, 0]
    assert scores["precision"] == pytest.approx([0.5, 1, 0])
    assert scores["recall"] == pytest.approx([1, 2 / 3, 0])
    assert scores["occurs"].tolist() == [True, True, False]
    logits = np.eye(3, dtype=np.float32)[guessed]
    assert class_table(logits, labels, ("a", "b", "c"))[1] == {
        "name": "b",
        "n": 3,
        "precision": pytest.approx(1),
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(0.8),
    }


def test_ten_times_the_images_take_about_ten_times_as_long() -> None:
    def cpu_s(n: int) -> float:
        logits, labels = made(7, n=n, classes=1000)
        start = time.process_time()
        accuracy(logits, labels)
        return time.process_time() - start

    few, many = (min(cpu_s(n) for _ in range(3)) for n in (1000, 10_000))
    assert many < 30 * few  # a hundred where each image is compared with each
