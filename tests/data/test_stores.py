"""Memory does not grow with the number of pictures."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
from PIL import Image

from deploykit.base.preprocessing import Preprocessing
from deploykit.data.source import Split
from deploykit.data.stores import Files


def peak_bytes(path: str, count: int) -> int:
    split = Split("test", ("a", "b"), Files([path] * count), np.arange(count), np.zeros(count, np.int64))
    tracemalloc.start()
    try:
        assert sum(len(y) for _, y in split.batches(8, Preprocessing((64, 64), resize=72))) == count
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_batches_of_50_and_of_5000_pictures(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((80, 100, 3), np.uint8)).save(path)
    few, many = peak_bytes(str(path), 50), peak_bytes(str(path), 5000)
    assert many < few + 1_500_000  # 5,000 prepared pictures would be 246 MB; their indices and futures are small
