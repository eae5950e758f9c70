"""From images to the network's input: equal to torchvision's transforms on PIL images, faster on arrays of one size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.data.channels import in_channels
from deploykit.data.images import MOST_PIXELS


def prepare(images: Sequence[np.ndarray] | np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Resize, crop and normalize images.

    Equals ``Resize`` (antialiased), ``CenterCrop``, ``ToTensor`` and ``Normalize`` of torchvision on PIL images.

    ``images``: uint8 ``[H, W, C]`` each, of any sizes, or one array ``[N, H, W, C]``. ``preprocessing``: what to do.
    Returns float32, uint8 where ``preprocessing.embedded``; in its layout, C-contiguous.

    Raises:
        BadInput: no images, arrays of another shape or dtype, or channels that the network does not take.
    """
    if len(images) == 0:
        raise BadInput("no pictures to prepare")
    if isinstance(images, np.ndarray):
        _check(images, 4, "[N, H, W, C]")
    if isinstance(images, np.ndarray) and _already_fits(images.shape[1:3], preprocessing):
        return finish(in_channels(images, preprocessing.channels), preprocessing)
    return finish(np.stack([fit(one, preprocessing) for one in images]), preprocessing)


def fit(image: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Resize and crop one uint8 ``[H, W, C]`` image to ``[h, w, c]``, with the channels that the network takes."""
    _check(image, 3, "[H, W, C]")
    image = in_channels(image, preprocessing.channels)
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


def finish(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """uint8 ``[N, h, w, C]`` of the network's size and channels → its input: normalized unless the graph does that."""
    if preprocessing.embedded:
        turned = pixels if preprocessing.layout == "NHWC" else pixels.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(turned)
    x = normalise(pixels, preprocessing)
    return x if preprocessing.layout == "NCHW" else np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def normalise(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """uint8 ``[N, h, w, C]`` → float32 ``[N, C, h, w]``: (x / 255 − mean) / std, by a table of the 256 values."""
    steps = np.arange(256, dtype=np.float32) / np.float32(255)
    result = np.empty((len(pixels), preprocessing.channels, *pixels.shape[1:3]), dtype=np.float32)
    for channel in range(preprocessing.channels):
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
    method = methods[interpolation]
    if image.shape[2] == 3:
        return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((width, height), method))
    bands = [Image.fromarray(np.ascontiguousarray(image[..., i])) for i in range(image.shape[2])]
    return np.stack([np.asarray(one.resize((width, height), method)) for one in bands], axis=-1)


def _check(images: np.ndarray, dimensions: int, expected: str) -> None:
    if images.ndim != dimensions or images.dtype != np.uint8 or 0 in images.shape:
        raise BadInput("pictures", got=f"{images.dtype} {list(images.shape)}", expected=f"uint8 {expected}")
