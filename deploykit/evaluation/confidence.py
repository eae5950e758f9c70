"""How far a classifier's confidence can be believed: the reliability curve and the error that sums it up.

Source: Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017: section 2 (reliability
diagrams) and eq. 3 (ECE), 15 bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np

ROWS = 4096
ECE_BINS = 15


class Bin(TypedDict):
    """Images whose confidence lies in (low, high]: how many, their mean confidence, how often right."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Reliability:
    """Sums over equally wide bins of confidence over (0, 1].

    ``images``: float64 [bins], how many fell into each. ``confidence``: float64 [bins], the sum of their confidences.
    ``right``: float64 [bins], how many of them are right.
    """

    images: np.ndarray
    confidence: np.ndarray
    right: np.ndarray

    @property
    def ece(self) -> float:
        """The mean gap between confidence and accuracy, weighted by images."""
        return float(np.abs(self.confidence - self.right).sum() / self.images.sum())

    def curve(self) -> list[Bin]:
        """The bins that hold images."""
        bins = len(self.images)
        return [
            {
                "low": number / bins,
                "high": (number + 1) / bins,
                "n": int(self.images[number]),
                "confidence": min(1.0, float(self.confidence[number] / self.images[number])),
                "accuracy": float(self.right[number] / self.images[number]),
            }
            for number in np.flatnonzero(self.images).tolist()
        ]


def reliability(logits: np.ndarray, labels: np.ndarray, bins: int = ECE_BINS) -> Reliability:
    """Confidence against accuracy. Rows that are probabilities already are taken as they are.

    ``logits``: [N, C]. ``labels``: int64 [N]. ``bins``: number of bins over (0, 1].
    """
    ready = are_probabilities(logits)
    images, confidence, right = np.zeros(bins), np.zeros(bins), np.zeros(bins)
    for start in range(0, len(labels), ROWS):
        rows = logits[start : start + ROWS]
        best = rows.argmax(axis=1)
        sure = _top(rows, best, ready)
        which = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
        images += np.bincount(which, minlength=bins)
        confidence += np.bincount(which, weights=sure, minlength=bins)
        right += np.bincount(which, weights=best == labels[start : start + ROWS], minlength=bins)
    return Reliability(images, confidence, right)


def confidences(logits: np.ndarray) -> np.ndarray:
    """The probability that each row gives its own answer: float32 [N]."""
    return np.asarray(_top(logits, logits.argmax(axis=1), are_probabilities(logits)), dtype=np.float32)


def _top(rows: np.ndarray, best: np.ndarray, ready: bool) -> np.ndarray:
    top = np.take_along_axis(rows, best[:, None], axis=1)
    return np.asarray(top[:, 0] if ready else 1.0 / np.exp(rows - top, dtype=np.float32).sum(axis=1))


def are_probabilities(logits: np.ndarray) -> bool:
    """Whether all rows lie in [0, 1] and sum to 1: the network ends in a softmax."""
    if float(logits.min()) < 0 or float(logits.max()) > 1:
        return False
    return bool(np.abs(logits.sum(axis=1, dtype=np.float64) - 1).max() < 1e-2)
