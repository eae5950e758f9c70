"""What a convolution costs on the target at other widths: measured on a grid of widths, interpolated in between.

The time of a layer is no function of its multiply-accumulates: kernels work on blocks of channels, and some shapes
suit them better. The grid is measured on the target itself; a network's time is predicted as the sum over its layers
(the approach of Shen et al., "Structural Pruning via Latency-Saliency Knapsack", NeurIPS 2022, section 3.2).
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product

GRID = (0.15, 0.3, 0.45, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class LayerShape:
    """A convolution, or a linear layer as one of 1×1 on one pixel.

    Attributes:
        c_in: input channels.
        c_out: output channels.
        kernel: height and width.
        stride: vertical and horizontal.
        padding: vertical and horizontal, on both sides.
        dilation: vertical and horizontal.
        groups: 1, or as many as input channels (depthwise), or in between.
        in_size: height and width of the input in pixels.
    """

    c_in: int
    c_out: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    in_size: tuple[int, int]

    @property
    def depthwise(self) -> bool:
        """Whether every channel has a filter of its own: its width is one number."""
        return self.groups > 1 and self.groups == self.c_in

    def key(self) -> str:
        """What names it in a cache."""
        return json.dumps(asdict(self), sort_keys=True)

    def at(self, c_in: int, c_out: int) -> LayerShape:
        """The same layer at other widths; a depthwise one keeps one group per channel, others their channels a group."""
        if self.depthwise:
            return replace(self, c_in=c_in, c_out=c_in * (self.c_out // self.c_in), groups=c_in)
        if self.groups > 1:
            groups = max(1, round(c_in * self.groups / self.c_in))
            return replace(self, c_in=c_in, c_out=c_out, groups=groups)
        return replace(self, c_in=c_in, c_out=c_out)


Measure = Callable[[Sequence[LayerShape]], list[float]]


class LatencyTable:
    """Milliseconds of layers at any width.

    Args:
        measure: milliseconds of each shape, on the target.
        round_to: multiple that widths keep.
        known: key → milliseconds of shapes measured before; what is measured is added.
    """

    def __init__(self, measure: Measure, round_to: int, known: dict[str, float] | None = None) -> None:
        self.measure, self.round_to = measure, round_to
        self.known: dict[str, float] = {} if known is None else known
        self.cells: dict[tuple[str, int, int], float] = {}

    def prepare(self, layers: Sequence[LayerShape], *, varies_in: Sequence[bool], varies_out: Sequence[bool]) -> int:
        """Measure the grid of every layer.

        Args:
            layers: at full width.
            varies_in: per layer, whether its input's width may change.
            varies_out: per layer, whether its own width may change.

        Returns:
            How many shapes had to be measured.
        """
        wanted: dict[str, LayerShape] = {}
        for layer, moves_in, moves_out in zip(layers, varies_in, varies_out, strict=True):
            for shape in self._cells(layer, moves_in, moves_out):
                if shape.key() not in self.known:
                    wanted[shape.key()] = shape
        shapes = list(wanted.values())
        for key, time_ms in zip(wanted, self.measure(shapes) if shapes else [], strict=True):
            self.known[key] = time_ms
        return len(shapes)

    def time_ms(self, layer: LayerShape, c_in: int, c_out: int) -> float:
        """Milliseconds of ``layer`` at these widths, by bilinear interpolation between measured ones."""
        cell = (layer.key(), c_in, c_out)
        if cell not in self.cells:
            self.cells[cell] = self._interpolated(layer, c_in, c_out)
        return self.cells[cell]

    def _cells(self, layer: LayerShape, moves_in: bool, moves_out: bool) -> list[LayerShape]:
        inputs = self._levels(layer.c_in) if moves_in else [layer.c_in]
        outputs = self._levels(layer.c_out) if moves_out and not layer.depthwise else [layer.c_out]
        return [layer.at(c_in, c_out) for c_in, c_out in product(inputs, outputs)]

    def _levels(self, width: int) -> list[int]:
        """Widths of the grid: multiples of ``round_to``, the full width the last."""
        steps = {max(self.round_to, round(width * part / self.round_to) * self.round_to) for part in GRID}
        return [*sorted(step for step in steps if step < width), width]

    def _interpolated(self, layer: LayerShape, c_in: int, c_out: int) -> float:
        if layer.depthwise:
            return sum(share * self._known(layer, at, layer.c_out) for at, share in self._between(layer.c_in, c_in))
        return sum(
            share_in * share_out * self._known(layer, at_in, at_out)
            for at_in, share_in in self._between(layer.c_in, c_in)
            for at_out, share_out in self._between(layer.c_out, c_out)
        )

    def _known(self, layer: LayerShape, c_in: int, c_out: int) -> float:
        shape = layer.at(c_in, c_out)
        if shape.key() not in self.known:
            [self.known[shape.key()]] = self.measure([shape])
        return self.known[shape.key()]

    def _between(self, full: int, width: int) -> list[tuple[int, float]]:
        """The two levels around ``width`` and their shares; below the lowest level its line is drawn on."""
        levels = self._levels(full)
        if width in levels or len(levels) == 1:
            return [(width if width in levels else levels[0], 1.0)]
        upper = min(max(bisect_right(levels, width), 1), len(levels) - 1)
        low, high = levels[upper - 1], levels[upper]
        share = (width - low) / (high - low)
        return [(low, 1 - share), (high, share)]
