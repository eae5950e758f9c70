"""How often a classifier is right, from its logits and the labels alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.stats.proportion import wilson

ROWS = 4096
ECE_BINS = 15


def predictions(logits: np.ndarray) -> np.ndarray:
    """The predicted class of each image: int64 [N] of logits [N, C]; the lowest index wins a tie."""
    return np.asarray(logits.argmax(axis=1), dtype=np.int64)


def top_k(logits: np.ndarray, labels: np.ndarray, k: int) -> float:
    """The share of images whose label is among the ``k`` largest logits; ties go to the lower class index.

    Args:
        logits: [N, C].
        labels: int64 [N].
        k: at least 1.
    """
    hits = 0
    for start in range(0, len(labels), ROWS):
        rows, wanted = logits[start : start + ROWS], labels[start : start + ROWS]
        own = np.take_along_axis(rows, wanted[:, None], axis=1)
        rank = np.count_nonzero(rows > own, axis=1)
        tied = np.flatnonzero(np.count_nonzero(rows == own, axis=1) > 1)
        for i in tied:
            rank[i] += np.count_nonzero(rows[i, : wanted[i]] == own[i])
        hits += int(np.count_nonzero(rank < k))
    return hits / len(labels)


def per_class(predicted: np.ndarray, labels: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """Images, precision, recall and F1 of each class; a ratio without a denominator is 0.

    Args:
        predicted: int64 [N].
        labels: int64 [N].
        classes: C.

    Returns:
        ``n`` int64 [C] and ``precision``, ``recall``, ``f1`` float64 [C], and ``occurs`` bool [C]: the class is a label
        or a prediction of at least one image.
    """
    n = np.bincount(labels, minlength=classes)
    claimed = np.bincount(predicted, minlength=classes)
    right = np.bincount(labels[predicted == labels], minlength=classes)
    return {
        "n": n,
        "precision": right / np.maximum(claimed, 1),
        "recall": right / np.maximum(n, 1),
        "f1": 2 * right / np.maximum(n + claimed, 1),
        "occurs": (n + claimed) > 0,
    }


def expected_calibration_error(logits: np.ndarray, labels: np.ndarray, bins: int = ECE_BINS) -> float:
    """The mean gap between confidence and accuracy over equally wide bins of confidence, weighted by their images.

    Rows that are probabilities already (in [0, 1] with sum 1) are taken as they are.

    Source: Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017, eq. 3, 15 bins.

    Args:
        logits: [N, C].
        labels: int64 [N].
        bins: number of bins over (0, 1].
    """
    ready = are_probabilities(logits)
    images, confidence, right = np.zeros(bins), np.zeros(bins), np.zeros(bins)
    for start in range(0, len(labels), ROWS):
        rows = logits[start : start + ROWS]
        best = rows.argmax(axis=1)
        top = np.take_along_axis(rows, best[:, None], axis=1)
        sure = top[:, 0] if ready else 1.0 / np.exp(rows - top, dtype=np.float32).sum(axis=1)
        which = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
        images += np.bincount(which, minlength=bins)
        confidence += np.bincount(which, weights=sure, minlength=bins)
        right += np.bincount(which, weights=best == labels[start : start + ROWS], minlength=bins)
    return float(np.abs(confidence - right).sum() / images.sum())


def are_probabilities(logits: np.ndarray) -> bool:
    """Whether all rows lie in [0, 1] and sum to 1: the network ends in a softmax."""
    if float(logits.min()) < 0 or float(logits.max()) > 1:
        return False
    return bool(np.abs(logits.sum(axis=1, dtype=np.float64) - 1).max() < 1e-2)


def accuracy(logits: np.ndarray, labels: np.ndarray, ci_level: float = 0.95) -> dict[str, Any]:
    """Top-1 with its Wilson interval, top-5, macro scores and calibration.

    The macro scores average over the classes that occur as a label or as a prediction, as scikit-learn does.

    Args:
        logits: [N, C], finite.
        labels: int64 [N] in 0…C-1.
        ci_level: of the interval.

    Returns:
        ``n``, ``top1``, ``top1_low``, ``top1_high``, ``top5`` (None below six classes, where it says nothing),
        ``macro_f1``, ``macro_precision``, ``macro_recall``, ``ece``; ratios in [0, 1].
    """
    n, classes = logits.shape
    predicted = predictions(logits)
    right = int(np.count_nonzero(predicted == labels))
    low, high = wilson(right, n, ci_level)
    scores = per_class(predicted, labels, classes)
    occurs = scores["occurs"]
    return {
        "n": n,
        "top1": right / n,
        "top1_low": low,
        "top1_high": high,
        "top5": top_k(logits, labels, 5) if classes > 5 else None,
        "macro_f1": float(scores["f1"][occurs].mean()),
        "macro_precision": float(scores["precision"][occurs].mean()),
        "macro_recall": float(scores["recall"][occurs].mean()),
        "ece": expected_calibration_error(logits, labels),
    }


def class_table(logits: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """``per_class`` of a report: name, images, precision, recall and F1 of each class, in the order of the columns."""
    scores = per_class(predictions(logits), labels, len(classes))
    return [
        {"name": name, "n": int(scores["n"][i])} | {key: float(scores[key][i]) for key in ("precision", "recall", "f1")}
        for i, name in enumerate(classes)
    ]
