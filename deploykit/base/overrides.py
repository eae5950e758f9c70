"""What a user states of a file that does not say it itself, or says it wrongly: size, normalization, classes, layout, task.

Each fact has one precedence: flag, manifest, metadata, a known network's own; then what the graph says by itself. What
nothing says is assumed as values in 0…1 (mean 0, std 1), marked in the preprocessing, and said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Layout, Preprocessing

if TYPE_CHECKING:
    from deploykit.base.task import Task
    from deploykit.base.tensor_spec import TensorSpec

Values = Literal["0…255", "0…1"]
"""The values of a float image that a graph normalizes itself."""


@dataclass(frozen=True)
class Stated:
    """The flags ``--size --mean --std --classes --layout --task``; None where not given.

    Attributes:
        size: height and width of the input in pixels.
        mean: to subtract, of values in 0…1; one number, or one for each channel.
        std: to divide by, in the same way.
        classes: names in the order of the outputs.
        layout: of the input.
        task: what the outputs mean.
    """

    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    classes: tuple[str, ...] | None = None
    layout: Layout | None = None
    task: Task | None = None

    def over(self, known: Preprocessing) -> Preprocessing:
        """What is known of a file, with what was stated in its place.

        Raises:
            BadInput: another number of channels.
        """
        found = known if self.size is None or self.size == known.size else known.resized(self.size)
        if self.mean is not None or self.std is not None:
            mean = _each(self.mean, known.channels, "--mean") or known.mean
            std = _each(self.std, known.channels, "--std") or known.std
            found = replace(found, mean=mean, std=std, assumed=False)
        return found if self.layout in (None, found.layout) else replace(found, layout=self.layout)

    def of_input(
        self, spec: TensorSpec, normalizes: Callable[[], Values | None] = lambda: None
    ) -> Preprocessing | None:
        """The preprocessing of a file that states none, from what its input declares; None where nothing says its size.

        ``normalizes``: looks at the graph, where that decides: which values it normalizes itself, or None.

        Raises:
            BadInput: another number of channels than the input has.
        """
        spec = spec if self.layout is None else replace(spec, layout=self.layout)
        size = self.size or spec.size
        if size is None or len(spec.shape) != 4:
            return None
        channels = spec.channels or max(len(self.mean or ()), len(self.std or ()))
        channels = 3 if channels < 2 and spec.channels is None else channels
        plain = Preprocessing.plain(size, channels, layout="NHWC" if spec.layout == "NHWC" else "NCHW")
        if spec.dtype == "uint8":
            return replace(plain, embedded=True)
        if self.mean is not None or self.std is not None:
            return self.over(plain)
        values = normalizes()
        if values == "0…255":
            return replace(plain, std=(1 / 255,) * channels)
        return replace(plain, assumed=values is None)

    def names(self, outputs: int | None, where: str) -> tuple[str, ...] | None:
        """The class names stated, checked against the outputs of the file ``where``, where their number is known.

        Raises:
            BadInput: another number of names.
        """
        if self.classes is not None and outputs is not None and outputs != len(self.classes):
            raise BadInput(
                f"{where}: --classes does not fit its outputs", got=f"{len(self.classes)} names", expected=outputs
            )
        return self.classes


NOTHING_STATED = Stated()


def assumption(preprocessing: Preprocessing | None, where: str) -> str | None:
    """One line on a normalization that nothing states, or None where something does."""
    if preprocessing is None or not preprocessing.assumed:
        return None
    return (
        f"{where} does not say how its images are normalized: values in 0…1 are assumed (mean 0, std 1); "
        "state what it was trained with by --mean and --std"
    )


def _each(values: tuple[float, ...] | None, channels: int, flag: str) -> tuple[float, ...] | None:
    if values is None or len(values) == channels:
        return values
    if len(values) == 1:
        return values * channels
    expected = "1" if channels == 1 else f"1 or {channels}"
    raise BadInput(flag, got=f"{len(values)} values", expected=f"{expected}, one for each channel of the input")
