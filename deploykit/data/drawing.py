"""Drawing a label on a picture, readable at any size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

_LEAST_SIDE = 192
_SMALLEST_FONT = 12
_MOST_TEXT = 60


def labelled(pixels: np.ndarray, text: str) -> Image:
    """The picture with ``text`` on a dark band below it, which hides nothing of it.

    Pictures narrower than 192 pixels are enlarged by a whole factor, so that the text fits.

    Args:
        pixels: uint8 ``[H, W, 3]``.
        text: one line; shortened where it does not fit.
    """
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.fromarray(pixels)
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
