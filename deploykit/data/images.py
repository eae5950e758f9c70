"""Single images: files of any kind read as RGB bytes, labels drawn on them, natural-looking ones from a seed."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deploykit.base.errors import BadInput, from_os_error

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp", ".gif")
MOST_PIXELS = 178_956_970  # where Pillow too calls a picture a decompression bomb


def read_image(path: str | Path) -> np.ndarray:
    """Read one picture.

    Grey, palette and CMYK images are converted, 16-bit and float values are scaled to 8 bit, the EXIF rotation is applied,
    of animations the first image is taken.

    Returns uint8 ``[H, W, 3]``, RGB; ``[H, W, 4]`` of RGBA files.

    Raises:
        BadInput: missing, no picture, truncated, or larger than 178,956,970 pixels.
    """
    from PIL import Image, UnidentifiedImageError

    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise from_os_error(error, f"cannot read {path}") from error
    if not content:
        raise BadInput(f"{path} is empty", expected="a picture", fix="Remove it, or pass --skip-broken.")
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            return pixels_of(image)
    except Image.DecompressionBombError:
        raise BadInput(
            f"{path} is too large a picture",
            expected=f"at most {MOST_PIXELS:,} pixels",
            fix="Scale it down first, or pass --skip-broken.",
        ) from None
    except UnidentifiedImageError as error:
        raise BadInput(
            f"{path} is no picture", expected="JPEG, PNG, WebP, TIFF …", fix="Remove it, or pass --skip-broken."
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error) as error:
        raise BadInput(f"{path} is a broken picture: {error}", fix="Remove it, or pass --skip-broken.") from error


def pixels_of(image: Image) -> np.ndarray:
    """A Pillow image of any mode as uint8 ``[H, W, 3]``, ``[H, W, 4]`` of RGBA, upright."""
    from PIL import ImageOps

    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):
        return np.repeat(_to_bytes(np.asarray(upright), sixteen=sixteen)[..., None], 3, axis=2)
    return np.array(upright if upright.mode == "RGBA" else upright.convert("RGB"))


def _to_bytes(values: np.ndarray, *, sixteen: bool) -> np.ndarray:
    """Values of 16 bits (0…65535) or floats in [0, 1] or [0, 255] as bytes."""
    largest = values.max(initial=0)
    if values.dtype.kind == "f" and largest <= 1:
        scaled = values * 255.0
    elif largest > 255 or sixteen:
        scaled = values / 257.0
    else:
        scaled = values
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


_LEAST_SIDE = 192
_SMALLEST_FONT = 12
_MOST_TEXT = 60


def shown(pixels: np.ndarray) -> Image:
    """An image of any number of channels as people see it: grey of one or two, else its first three as colours.

    ``pixels``: uint8 ``[H, W, C]``.
    """
    from PIL import Image

    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] < 3 else np.ascontiguousarray(pixels[..., :3])).convert(
        "RGB"
    )


def labelled(pixels: np.ndarray, text: str) -> Image:
    """The picture with ``text`` on a dark band below it, which hides nothing of it.

    Pictures narrower than 192 pixels are enlarged by a whole factor, so that the text fits.

    ``pixels``: uint8 ``[H, W, C]``. ``text``: one line; shortened where it does not fit.
    """
    from PIL import Image, ImageDraw, ImageFont

    picture = shown(pixels)
    if picture.width < _LEAST_SIDE:
        factor = -(-_LEAST_SIDE // picture.width)
        factor = max(1, min(factor, -(-8 * _LEAST_SIDE // picture.height)))
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    width = max(picture.width, _LEAST_SIDE)
    line = " ".join(text.split())
    line = line if len(line) <= _MOST_TEXT else line[: _MOST_TEXT - 1] + "…"
    size = max(_SMALLEST_FONT, width // 16)
    font = ImageFont.load_default(size)
    while size > _SMALLEST_FONT and font.getlength(line) > width - size:
        size -= 1
        font = ImageFont.load_default(size)
    while len(line) > 1 and font.getlength(line) > width - size:
        line = line[:-2] + "…"
    band = round(size * 1.6)
    canvas = Image.new("RGB", (width, picture.height + band), (24, 24, 27))
    canvas.paste(picture, ((width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(canvas)
    draw.text((size / 2, picture.height + band / 2), line, font=font, fill=(250, 250, 250), anchor="lm")
    return canvas


def synthetic_images(n: int, size: tuple[int, int], seed: int, channels: int = 3) -> np.ndarray:
    """Clouds of colour whose amplitude falls with frequency, as in natural pictures (Field, 1987).

    ``n``: number of images. ``size``: height and width in pixels. ``channels``: three, or above that as many independent
    clouds. Returns uint8 ``[n, H, W, max(3, channels)]``: :func:`deploykit.data.prepare` makes grey of colour.
    """
    if channels > 3:
        parts = [synthetic_images(n, size, seed + part) for part in range(-(-channels // 3))]
        return np.ascontiguousarray(np.concatenate(parts, axis=-1)[..., :channels])
    height, width = size
    result = np.empty((n, height, width, 3), dtype=np.uint8)
    for i in range(n):
        result[i] = _clouds(np.random.default_rng([seed, i]), height, width)
    return result


def _clouds(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
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
