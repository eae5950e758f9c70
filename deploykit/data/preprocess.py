"""From pictures to the network's input: equal to torchvision's transforms on PIL images, faster on arrays of one size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.data.images import MOST_PIXELS


def prepare(images: Sequence[np.ndarray] | np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Resize, crop and normalise pictures.

    Equals ``Resize`` (antialiased), ``CenterCrop``, ``ToTensor`` and ``Normalize`` of torchvision on PIL images.

    ``images``: uint8 ``[H, W, 3]`` each, of any sizes, or one array ``[N, H, W, 3]``. ``preprocessing``: what to do.
    Returns float32 ``[N, 3, h, w]``, C-contiguous; uint8 ``[N, h, w, 3]`` where ``preprocessing.embedded``.

    Raises:
        BadInput: no pictures, or arrays of another shape or dtype.
    """
    if len(images) == 0:
        raise BadInput("no pictures to prepare")
    if isinstance(images, np.ndarray):
        _check(images, 4, "[N, H, W, 3]")
        pixels = (
            images
            if _already_fits(images.shape[1:3], preprocessing)
            else np.stack([fit(one, preprocessing) for one in images])
        )
    else:
        pixels = np.stack([fit(one, preprocessing) for one in images])
    return np.ascontiguousarray(pixels) if preprocessing.embedded else normalise(pixels, preprocessing)


def fit(image: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Resize and crop one uint8 ``[H, W, 3]`` picture to ``[h, w, 3]``."""
    _check(image, 3, "[H, W, 3]")
    height, width = image.shape[:2]
    if _already_fits((height, width), preprocessing):
        return image
    h, w = preprocessing.size
    if preprocessing.resize is None:
        return _resized(image, h, w, preprocessing.interpolation)
    short = preprocessing.resize
    if short * short * max(height, width) // min(height, width) > MOST_PIXELS:
        raise BadInput(
            f"a picture of {width} × {height} pixels is too long to be resized to {short} at its shorter side"
        )
    if height <= width:
        image = _resized(image, short, int(short * width / height), preprocessing.interpolation)
    else:
        image = _resized(image, int(short * height / width), short, preprocessing.interpolation)
    top, left = round((image.shape[0] - h) / 2.0), round((image.shape[1] - w) / 2.0)
    return image[top : top + h, left : left + w]


def normalise(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """uint8 ``[N, h, w, 3]`` → float32 ``[N, 3, h, w]``: (x / 255 − mean) / std, by a table of the 256 values."""
    steps = np.arange(256, dtype=np.float32) / np.float32(255)
    result = np.empty((len(pixels), 3, *pixels.shape[1:3]), dtype=np.float32)
    for channel in range(3):
        mean, std = np.float32(preprocessing.mean[channel]), np.float32(preprocessing.std[channel])
        np.take((steps - mean) / std, pixels[..., channel], out=result[:, channel], mode="clip")
    return result


def _already_fits(shape: tuple[int, ...], preprocessing: Preprocessing) -> bool:
    return tuple(shape) == tuple(preprocessing.size) and preprocessing.resize in (None, min(shape))


def _resized(image: np.ndarray, height: int, width: int, interpolation: str) -> np.ndarray:
    if image.shape[:2] == (height, width):
        return image
    from PIL import Image

    methods = {
        "nearest": Image.Resampling.NEAREST,
        "bilinear": Image.Resampling.BILINEAR,
        "bicubic": Image.Resampling.BICUBIC,
    }
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((width, height), methods[interpolation]))


def _check(images: np.ndarray, dimensions: int, expected: str) -> None:
    if images.ndim != dimensions or images.shape[-1] != 3 or images.dtype != np.uint8 or 0 in images.shape:
        raise BadInput("pictures", got=f"{images.dtype} {list(images.shape)}", expected=f"uint8 {expected}")
