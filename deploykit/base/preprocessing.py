"""What turns a picture into the network's input, as data that travels with the artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from deploykit.base.atomic import JsonObject
from deploykit.base.errors import BadInput

INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


@dataclass(frozen=True)
class Preprocessing:
    """RGB uint8 picture → resize → centre crop → [0, 1] → (x − mean) / std → NCHW float32.

    Attributes:
        size: height and width of the network's input, in pixels.
        resize: length to which the shorter side is resized before the centre crop to ``size``;
            None: the picture is resized to ``size`` directly, its aspect ratio not kept.
        interpolation: of the resize; always antialiased when it shrinks.
        mean: per channel, of values in [0, 1].
        std: per channel, of values in [0, 1].
        embedded: normalisation and layout change happen inside the graph: the input is uint8 NHWC.
    """

    size: tuple[int, int]
    resize: int | None = None
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    embedded: bool = False

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise BadInput("preprocessing size", got=self.size, expected="height and width of at least 1 pixel")
        if self.resize is not None and self.resize < max(self.size):
            raise BadInput("preprocessing resize", got=self.resize, expected=f"at least the crop {max(self.size)}")
        if self.interpolation not in INTERPOLATIONS:
            raise BadInput("preprocessing interpolation", got=self.interpolation, expected="/".join(INTERPOLATIONS))
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise BadInput("preprocessing mean/std", got=(self.mean, self.std), expected="3 values each, std above 0")

    def resized(self, size: int) -> Preprocessing:
        """The same for another input size in pixels; the resize before the crop keeps its ratio to it."""
        resize = None if self.resize is None else max(size, round(self.resize * size / max(self.size)))
        return replace(self, size=(size, size), resize=resize)

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
