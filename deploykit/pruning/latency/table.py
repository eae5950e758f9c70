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

    ``c_in``: input channels. ``c_out``: output channels. ``kernel``: height and width. ``stride``, ``dilation``:
    vertical and horizontal. ``padding``: vertical and horizontal, on both sides. ``groups``: 1, or as many as input
    channels (depthwise), or in between. ``in_size``: height and width of the input in pixels.
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

    ``measure``: milliseconds of each shape, on the target. ``known``: key → milliseconds of shapes measured before;
    what is measured is added.
    """

    def __init__(self, measure: Measure, known: dict[str, float] | None = None) -> None:
        self.measure = measure
        self.known: dict[str, float] = {} if known is None else known
        self.levels: dict[str, tuple[set[int], set[int]]] = {}
        self.cells: dict[tuple[str, int, int], float] = {}

    def prepare(
        self, layers: Sequence[LayerShape], inputs: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]
    ) -> int:
        """Measure the grid of every layer.

        ``layers``: at full width. ``inputs``: per layer, the widths that its input may have; empty: only the present
        one. ``outputs``: the same of its own width. Returns how many shapes had to be measured.
        """
        wanted: dict[str, LayerShape] = {}
        for layer, ins, outs in zip(layers, inputs, outputs, strict=True):
            at_in, at_out = self.levels.setdefault(layer.key(), ({layer.c_in}, {layer.c_out}))
            at_in.update(thinned(ins))
            at_out.update([] if layer.depthwise else thinned(outs))
        for layer in layers:
            for c_in, c_out in product(*self.levels[layer.key()]):
                shape = layer.at(c_in, c_out)
                if shape.key() not in self.known:
                    wanted[shape.key()] = shape
        shapes = list(wanted.values())
        for key, time_ms in zip(wanted, self.measure(shapes) if shapes else [], strict=True):
            self.known[key] = time_ms
        self.cells.clear()
        return len(shapes)

    def used(self) -> dict[str, float]:
        """Key → milliseconds of the shapes that the layers prepared so far have."""
        layers = [(LayerShape(**json.loads(key)), levels) for key, levels in self.levels.items()]
        keys = {layer.at(*widths).key() for layer, levels in layers for widths in product(*levels)}
        return {key: self.known[key] for key in sorted(keys)}

    def time_ms(self, layer: LayerShape, c_in: int, c_out: int) -> float:
        """Milliseconds of ``layer`` at these widths, by bilinear interpolation between measured ones."""
        cell = (layer.key(), c_in, c_out)
        if cell not in self.cells:
            self.cells[cell] = self._interpolated(layer, c_in, c_out)
        return self.cells[cell]

    def _interpolated(self, layer: LayerShape, c_in: int, c_out: int) -> float:
        ins, outs = (sorted(levels) for levels in self.levels[layer.key()])
        if layer.depthwise:
            return sum(share * self._known(layer, at, layer.c_out) for at, share in _between(ins, c_in))
        return sum(
            share_in * share_out * self._known(layer, at_in, at_out)
            for at_in, share_in in _between(ins, c_in)
            for at_out, share_out in _between(outs, c_out)
        )

    def _known(self, layer: LayerShape, c_in: int, c_out: int) -> float:
        return self.known[layer.at(c_in, c_out).key()]


def thinned(widths: Sequence[int]) -> list[int]:
    """Of the widths that a layer may have those that are measured: all if few, else those nearest to :data:`GRID`.

    Only widths that pruning can choose: time falls in stairs, and a width that kernels dislike must not be hidden
    between two that they like.
    """
    if len(set(widths)) <= len(GRID):
        return sorted(set(widths))
    full = max(widths)
    return sorted({min(widths, key=lambda width: abs(width - part * full)) for part in GRID})


def _between(levels: Sequence[int], width: int) -> list[tuple[int, float]]:
    """The two levels around ``width`` and their shares; below the lowest level its line is drawn on."""
    if width in levels or len(levels) == 1:
        return [(width if width in levels else levels[0], 1.0)]
    upper = min(max(bisect_right(levels, width), 1), len(levels) - 1)
    low, high = levels[upper - 1], levels[upper]
    share = (width - low) / (high - low)
    return [(low, 1 - share), (high, share)]
