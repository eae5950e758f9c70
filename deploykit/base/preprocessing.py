"""What turns an image into the network's input, as data that travels with the artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from deploykit.base.atomic import JsonObject
from deploykit.base.errors import BadInput

INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
Layout = Literal["NCHW", "NHWC"]


@dataclass(frozen=True)
class Preprocessing:
    """Image → resize → centre crop → [0, 1] → (x − mean) / std → float32 in the input's layout.

    Attributes:
        size: height and width of the network's input, in pixels.
        resize: length to which the shorter side is resized before the centre crop to ``size``;
            None: the image is resized to ``size`` directly, its aspect ratio not kept.
        interpolation: of the resize; always antialiased when it shrinks.
        mean: per channel, of values in [0, 1]; its length is the input's number of channels.
        std: per channel, of values in [0, 1].
        embedded: normalization happens inside the graph: the input is uint8.
        layout: of the input; None becomes NHWC where the input is uint8, else NCHW.
        assumed: nothing states mean and std: they are 0 and 1, values in 0…1.
    """

    size: tuple[int, int]
    resize: int | None = None
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    embedded: bool = False
    layout: Layout | None = None
    assumed: bool = False

    def __post_init__(self) -> None:
        if self.layout is None:
            object.__setattr__(self, "layout", "NHWC" if self.embedded else "NCHW")
        elif self.layout not in ("NCHW", "NHWC"):
            raise BadInput("preprocessing layout", got=self.layout, expected="NCHW or NHWC")
        if len(self.size) != 2 or min(self.size) < 1:
            raise BadInput("preprocessing size", got=self.size, expected="height and width of at least 1 pixel")
        if self.resize is not None and self.resize < max(self.size):
            raise BadInput("preprocessing resize", got=self.resize, expected=f"at least the crop {max(self.size)}")
        if self.interpolation not in INTERPOLATIONS:
            raise BadInput("preprocessing interpolation", got=self.interpolation, expected="/".join(INTERPOLATIONS))
        if not self.mean or len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise BadInput(
                "preprocessing mean/std", got=(self.mean, self.std), expected="a value for each channel, std above 0"
            )

    @classmethod
    def plain(cls, size: tuple[int, int], channels: int = 3, *, layout: Layout | None = None) -> Preprocessing:
        """Values in 0…1 of an image that is resized to ``size``."""
        return cls(size, mean=(0.0,) * channels, std=(1.0,) * channels, layout=layout)

    @property
    def channels(self) -> int:
        """Of the network's input."""
        return len(self.mean)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the network's input, whatever its layout."""
        return (self.channels, *self.size)

    def resized(self, size: tuple[int, int]) -> Preprocessing:
        """The same for another input size in pixels; the resize before the crop keeps its ratio to it.

        An image is stretched to a size whose height and width differ: a crop of it would show a strip.
        """
        keeps = self.resize is not None and size[0] == size[1]
        resize = max(*size, round((self.resize or 0) * max(size) / max(self.size))) if keeps else None
        return replace(self, size=size, resize=resize)

    def to_dict(self) -> JsonObject:
        """A JSON-able dictionary that :meth:`from_dict` reads back."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Preprocessing:
        """Read what :meth:`to_dict` wrote.

        Raises:
            BadInput: a field is missing, unknown or of the wrong type.
        """
        try:
            tuples: JsonObject = {key: tuple(one) if isinstance(one, list) else one for key, one in fields.items()}
            return cls(**tuples)
        except TypeError as error:
            raise BadInput(f"preprocessing cannot be read: {error}") from error
