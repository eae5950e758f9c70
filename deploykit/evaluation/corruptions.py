"""Small corruptions of pictures, at several strengths, seeded: what a camera, a lamp or a codec does to real ones.

Source: Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations", ICLR
2019; the kinds and the order of their strengths, with lengths relative to the picture's shorter side, so that 32-pixel
and 224-pixel pictures suffer alike.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np

STRENGTHS = (1, 2, 3)
_NOISE = (0.04, 0.08, 0.16)  # standard deviation, of the range of a pixel
_BLUR = (0.012, 0.02, 0.035)  # standard deviation of the Gaussian, of the shorter side
_BRIGHTNESS = (0.1, 0.2, 0.3)  # added, of the range of a pixel
_JPEG = (60, 30, 15)  # quality


def _noise(image: np.ndarray, strength: int, generator: np.random.Generator) -> np.ndarray:
    shaken = image + generator.normal(0, 255 * _NOISE[strength - 1], image.shape)
    return np.clip(np.round(shaken), 0, 255).astype(np.uint8)


def _blur(image: np.ndarray, strength: int, generator: np.random.Generator) -> np.ndarray:
    from PIL import Image, ImageFilter

    radius = _BLUR[strength - 1] * min(image.shape[:2])
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).filter(ImageFilter.GaussianBlur(radius)))


def _brightness(image: np.ndarray, strength: int, generator: np.random.Generator) -> np.ndarray:
    sign = 1 if generator.random() < 0.5 else -1
    return np.clip(image.astype(np.int16) + round(255 * sign * _BRIGHTNESS[strength - 1]), 0, 255).astype(np.uint8)


def _jpeg(image: np.ndarray, strength: int, generator: np.random.Generator) -> np.ndarray:
    from PIL import Image

    packed = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(packed, "JPEG", quality=_JPEG[strength - 1])
    return np.asarray(Image.open(packed).convert("RGB"))


CORRUPTIONS: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
    "noise": _noise,
    "blur": _blur,
    "brightness": _brightness,
    "jpeg": _jpeg,
}
"""Name → what it does to a uint8 ``[H, W, 3]`` picture at a strength of :data:`STRENGTHS`."""


def corrupt(image: np.ndarray, name: str, strength: int, seed: int, number: int) -> np.ndarray:
    """One corrupted picture; the same arguments give the same picture, whoever asks and in whatever order.

    Args:
        image: uint8 ``[H, W, 3]``.
        name: of :data:`CORRUPTIONS`.
        strength: 1, 2 or 3.
        seed: of all.
        number: of the picture; each has its own noise.
    """
    generator = np.random.default_rng([seed, list(CORRUPTIONS).index(name), strength, number])
    return CORRUPTIONS[name](image, strength, generator)
