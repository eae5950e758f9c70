"""Images of one number of channels for networks that take another: grey, colour, with transparency, or of any bands."""

from __future__ import annotations

import numpy as np

from deploykit.base.errors import BadInput

_LUMA = (19595, 38470, 7471)  # ITU-R 601 in 1/65536, as Pillow turns RGB to L


def in_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """uint8 ``[…, H, W, C]`` with as many channels as a network takes.

    Colour becomes luma for one channel, grey is repeated for three, and transparency is dropped for both.

    Raises:
        BadInput: what is not there cannot be made up: colours for four channels, bands of a spectrum.
    """
    have = images.shape[-1]
    if have == channels:
        return images
    if have == 4 and channels in (1, 3):
        return in_channels(np.ascontiguousarray(images[..., :3]), channels)
    if have == 3 and channels == 1:
        red, green, blue = (images[..., i].astype(np.uint32) * weight for i, weight in enumerate(_LUMA))
        return ((red + green + blue + 0x8000) >> 16).astype(np.uint8)[..., None]
    if have == 1 and channels == 3:
        return np.repeat(images, 3, axis=-1)
    raise BadInput(
        f"images of {have} {'channel' if have == 1 else 'channels'} do not fit a network that takes {channels}",
        fix="Use images with as many channels: an .npz of uint8 [n, H, W, C] holds any number.",
    )


def channels_note(image: np.ndarray, channels: int) -> str | None:
    """What :func:`in_channels` changes of an image, for people; None where nothing that it shows is lost or made up."""
    have = image.shape[-1]
    if have == channels or (have == 3 and channels == 1 and bool((image == image[..., :1]).all())):
        return None
    if channels == 1:
        return "the network takes one channel: colour images are turned to grey (luma)"
    return "grey images are repeated to three channels" if have == 1 else "the transparency of images is dropped"
