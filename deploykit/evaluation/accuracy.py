"""From logits and labels alone: how often a classifier is right, which classes it takes for which, what changed."""

from __future__ import annotations

from typing import NotRequired, TypedDict

import numpy as np

from deploykit.evaluation.confidence import Bin, confidences, reliability
from deploykit.stats.proportions import wilson

ROWS = 4096


class Scores(TypedDict):
    """What :func:`accuracy` finds: ratios in [0, 1]; ``top5`` is None below six classes, where it says nothing."""

    n: int
    top1: float
    top1_low: float
    top1_high: float
    top5: float | None
    macro_f1: float
    macro_precision: float
    macro_recall: float
    ece: float
    reliability: list[Bin]


class ClassScores(TypedDict):
    """One class: its images and scores; the last two compare its images with a baseline's answers."""

    name: str
    n: int
    precision: float
    recall: float
    f1: float
    agreement: NotRequired[float]
    negative_flips: NotRequired[float]


class Mistaken(TypedDict):
    """How often images of ``label`` were taken for ``predicted``."""

    label: str
    predicted: str
    n: int


class NegativeFlip(TypedDict):
    """An image that a baseline gets right and the model wrong: its row of the logits, and indices of classes."""

    row: int
    label: int
    base: int
    predicted: int
    confidence: float


def predictions(logits: np.ndarray) -> np.ndarray:
    """The predicted class of each image: int64 [N] of logits [N, C]; the lowest index wins a tie."""
    return np.asarray(logits.argmax(axis=1), dtype=np.int64)


def top_k(logits: np.ndarray, labels: np.ndarray, k: int) -> float:
    """The share of images whose label is among the ``k`` largest logits; ties go to the lower class index.

    ``logits``: [N, C]. ``labels``: int64 [N]. ``k``: at least 1.
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

    ``predicted``, ``labels``: int64 [N]. ``classes``: C. Returns ``n`` int64 [C] and ``precision``, ``recall``, ``f1``
    float64 [C], and ``occurs`` bool [C]: the class is a label or a prediction of at least one image.
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


def accuracy(logits: np.ndarray, labels: np.ndarray, ci_level: float = 0.95) -> Scores:
    """Top-1 with its Wilson interval, top-5, macro scores and calibration.

    The macro scores average over the classes that occur as a label or as a prediction, as scikit-learn does.

    ``logits``: [N, C], finite. ``labels``: int64 [N] in 0…C-1.
    """
    n, classes = logits.shape
    predicted = predictions(logits)
    right = int(np.count_nonzero(predicted == labels))
    low, high = wilson(right, n, ci_level)
    scores = per_class(predicted, labels, classes)
    occurs = scores["occurs"]
    believed = reliability(logits, labels)
    return {
        "n": n,
        "top1": right / n,
        "top1_low": low,
        "top1_high": high,
        "top5": top_k(logits, labels, 5) if classes > 5 else None,
        "macro_f1": float(scores["f1"][occurs].mean()),
        "macro_precision": float(scores["precision"][occurs].mean()),
        "macro_recall": float(scores["recall"][occurs].mean()),
        "ece": believed.ece,
        "reliability": believed.curve(),
    }


def class_table(logits: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> list[ClassScores]:
    """The scores of each class, in the order of the columns."""
    scores = per_class(predictions(logits), labels, len(classes))
    return [
        {
            "name": name,
            "n": int(scores["n"][i]),
            "precision": float(scores["precision"][i]),
            "recall": float(scores["recall"][i]),
            "f1": float(scores["f1"][i]),
        }
        for i, name in enumerate(classes)
    ]


def confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """How many images of each label were given each answer: int64 [C labels, C answers].

    ``predicted``, ``labels``: int64 [N]. ``classes``: C.
    """
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def most_confused(matrix: np.ndarray, names: tuple[str, ...], most: int = 20) -> list[Mistaken]:
    """The pairs of classes that are mistaken most often, the worst first.

    ``most``: number of pairs.
    """
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    found: list[Mistaken] = []
    for place in np.argsort(-wrong, axis=None, kind="stable")[:most].tolist():
        label, answer = divmod(place, len(names))
        if wrong[label, answer] == 0:
            break
        found.append({"label": names[label], "predicted": names[answer], "n": int(wrong[label, answer])})
    return found


def changed_by_class(
    predicted: np.ndarray, base: np.ndarray, labels: np.ndarray, classes: int
) -> dict[str, np.ndarray]:
    """Agreement with a baseline and negative flips of the images of each class; a class without images has 1 and 0.

    ``predicted``: int64 [N], of the model. ``base``: int64 [N], of the baseline. ``labels``: int64 [N]. ``classes``: C.
    Returns ``agreement`` and ``negative_flips``, float64 [C], as shares of the class's images.
    """
    n = np.maximum(np.bincount(labels, minlength=classes), 1)
    differ = np.bincount(labels[predicted != base], minlength=classes)
    lost = np.bincount(labels[(base == labels) & (predicted != labels)], minlength=classes)
    return {"agreement": 1 - differ / n, "negative_flips": lost / n}


def negative_flips(logits: np.ndarray, base: np.ndarray, labels: np.ndarray, most: int) -> list[NegativeFlip]:
    """The images that the baseline gets right and the model wrong, those first about which it is most sure.

    ``logits``: [N, C] of the model. ``base``: int64 [N], the baseline's answers. ``labels``: int64 [N]. ``most``:
    number of images.
    """
    predicted = logits.argmax(axis=1)
    rows = np.flatnonzero((base == labels) & (predicted != labels))
    if rows.size == 0:
        return []
    sure = confidences(logits[rows])
    return [
        {
            "row": int(rows[i]),
            "label": int(labels[rows[i]]),
            "base": int(base[rows[i]]),
            "predicted": int(predicted[rows[i]]),
            "confidence": min(1.0, float(sure[i])),
        }
        for i in np.argsort(-sure, kind="stable")[:most].tolist()
    ]
