"""Seeded, natural-looking pictures for checks without data."""

from __future__ import annotations

import numpy as np


def synthetic_images(n: int, size: tuple[int, int], seed: int) -> np.ndarray:
    """Clouds of colour whose amplitude falls with frequency, as in natural pictures (Field, 1987).

    Args:
        n: number of pictures.
        size: height and width in pixels.
        seed: picture ``i`` depends on ``(seed, i, size)`` alone.

    Returns:
        uint8 ``[n, H, W, 3]``.
    """
    height, width = size
    result = np.empty((n, height, width, 3), dtype=np.uint8)
    for i in range(n):
        result[i] = _picture(np.random.default_rng([seed, i]), height, width)
    return result


def _picture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    from PIL import Image

    total = np.zeros((height, width, 3), dtype=np.float32)
    cells, amplitude = 2, 1.0
    while cells <= max(height, width):
        grid = rng.integers(0, 256, size=(cells, cells, 3), dtype=np.uint8)
        smooth = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
        total += amplitude * (np.asarray(smooth, dtype=np.float32) - 127.5)
        cells, amplitude = cells * 2, amplitude * 0.55
    spread = max(float(total.std()), 1e-3)
    bright = rng.uniform(90, 160)
    return np.clip(bright + rng.uniform(40, 70) * total / spread, 0, 255).astype(np.uint8)
