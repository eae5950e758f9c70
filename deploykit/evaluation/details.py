"""Which classes are taken for which, and which images changed their answer."""

from __future__ import annotations

from typing import Any

import numpy as np

from deploykit.evaluation.confidence import confidences


def confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """How many images of each label were given each answer: int64 [C labels, C answers].

    Args:
        predicted: int64 [N].
        labels: int64 [N].
        classes: C.
    """
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def most_confused(matrix: np.ndarray, names: tuple[str, ...], most: int = 20) -> list[dict[str, Any]]:
    """The pairs of classes that are mistaken most often, the worst first: ``label``, ``predicted``, ``n``.

    Args:
        matrix: of :func:`confusion`.
        names: of the classes.
        most: number of pairs.
    """
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    found = []
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

    Args:
        predicted: int64 [N], of the model.
        base: int64 [N], of the baseline.
        labels: int64 [N].
        classes: C.

    Returns:
        ``agreement`` and ``negative_flips``, float64 [C], as shares of the class's images.
    """
    n = np.maximum(np.bincount(labels, minlength=classes), 1)
    differ = np.bincount(labels[predicted != base], minlength=classes)
    lost = np.bincount(labels[(base == labels) & (predicted != labels)], minlength=classes)
    return {"agreement": 1 - differ / n, "negative_flips": lost / n}


def negative_flips(logits: np.ndarray, base: np.ndarray, labels: np.ndarray, most: int) -> list[dict[str, Any]]:
    """The images that the baseline gets right and the model wrong, those first about which it is most sure.

    Args:
        logits: [N, C] of the model.
        base: int64 [N], the baseline's answers.
        labels: int64 [N].
        most: number of images.

    Returns:
        ``row`` (of the logits), ``label``, ``base``, ``predicted`` (class indices), ``confidence``.
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
