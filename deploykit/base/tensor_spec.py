"""What an engine declares of one of its inputs or outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TensorSpec:
    """What an engine declares of one input or output.

    ``name``: in the engine. ``dtype``: numpy name, ``float32`` or ``uint8`` for pictures. ``shape``: with a string
    (``batch``) where a dimension is dynamic. ``layout``: ``NCHW``, ``NHWC``, ``NC``, or None where it is none of these.
    ``sigmoid``: an output that ends in a Sigmoid: several yes-or-no answers, each at 0.5.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    layout: str | None = None
    sigmoid: bool = False

    @property
    def fixed_batch(self) -> int | None:
        """The only batch size the engine takes, or None where it is dynamic."""
        return self.shape[0] if self.shape and isinstance(self.shape[0], int) else None

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width in pixels of an image that it takes; None where they are free, or it takes no image."""
        if len(self.shape) != 4:
            return None
        height, width = self.shape[1:3] if self.layout == "NHWC" else self.shape[2:4]
        return (height, width) if isinstance(height, int) and isinstance(width, int) else None

    @property
    def channels(self) -> int | None:
        """Of an image that it takes; None where they are free, or it takes no image."""
        if len(self.shape) != 4:
            return None
        found = self.shape[3] if self.layout == "NHWC" else self.shape[1]
        return found if isinstance(found, int) else None


def layout_of(shape: Sequence[int | str]) -> str | None:
    """The layout of a tensor by its shape: ``NC``; ``NHWC`` where only the last dimension can be that of the channels;
    else ``NCHW``; None where it is neither of two nor of four dimensions.
    """
    if len(shape) != 4:
        return "NC" if len(shape) == 2 else None
    return "NHWC" if shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4) else "NCHW"
