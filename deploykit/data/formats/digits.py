"""The real handwritten digits inside scikit-learn (Alpaydin & Kaynak, 1998): no download."""

from __future__ import annotations

import numpy as np

from deploykit.data.forms import Asked
from deploykit.data.source import DataSource
from deploykit.data.stores import Array, Part

TEST = 450
SIDE = 32


def open_digits(asked: Asked) -> DataSource:
    """1,347 train and 450 test pictures, stratified by a fixed seed; 8 → 32 px, one channel repeated to three."""
    from PIL import Image
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    large = [np.asarray(Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for one in grey]
    pixels = np.repeat(np.stack(large)[..., None], 3, axis=3)
    labels = bunch.target.astype(np.int64)
    test = _stratified(labels, TEST)

    def part(keep: np.ndarray) -> Part:
        return Part(Array(pixels[keep]), labels[keep])

    half = (0.5, 0.5, 0.5)
    return DataSource(
        asked.name,
        tuple(str(digit) for digit in range(10)),
        {"train": lambda: part(~test), "test": lambda: part(test)},
        (SIDE, SIDE),
        mean=half,
        std=half,
        progress=asked.progress,
    )


def _stratified(labels: np.ndarray, count: int) -> np.ndarray:
    """Choose ``count`` pictures, each class in proportion (largest remainders), drawn by a fixed seed: bool [n]."""
    sizes = np.bincount(labels)
    exact = sizes * count / len(labels)
    quota = np.floor(exact).astype(int)
    quota[np.argsort(quota - exact, kind="stable")[: count - quota.sum()]] += 1
    chosen = np.zeros(len(labels), dtype=bool)
    rng = np.random.RandomState(0)  # its stream is frozen, a Generator's is not
    for digit, wanted in enumerate(quota):
        chosen[rng.permutation(np.flatnonzero(labels == digit))[:wanted]] = True
    return chosen
