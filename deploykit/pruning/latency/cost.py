"""The milliseconds of a network at given widths, from the latency table of its layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from deploykit.pruning.group_cost import Costs, Counter, LayerCost
from deploykit.pruning.latency.table import LatencyTable, LayerShape
from deploykit.pruning.widths import Ladder


def layer_shapes(module: nn.Module, shape: tuple[int, int, int]) -> dict[str, LayerShape]:
    """Layer name → its shape, of all convolutions and linear layers, from one pass over a blank picture.

    A linear layer on tokens counts as a 1×1 convolution on as many pixels.

    ``module``: on the CPU; it is run in eval mode and left in the mode it was in. ``shape``: of an image,
    (channels, height, width).
    """
    found: dict[str, LayerShape] = {}

    def note(name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if isinstance(layer, nn.Conv2d):
                found[name] = _conv(layer, tuple(inputs[0].shape[-2:]))
            elif isinstance(layer, nn.Linear):
                pixels = inputs[0][0].numel() // layer.in_features
                found[name] = LayerShape(
                    layer.in_features, layer.out_features, (1, 1), (1, 1), (0, 0), (1, 1), 1, (pixels, 1)
                )

        return hook

    handles = [layer.register_forward_hook(note(name)) for name, layer in module.named_modules()]
    training = module.training
    try:
        with torch.inference_mode():
            module.eval()(torch.zeros(1, *shape))
    finally:
        module.train(training)
        for handle in handles:
            handle.remove()
    return found


def _conv(layer: nn.Conv2d, in_size: tuple[int, ...]) -> LayerShape:
    padding = layer.padding if isinstance(layer.padding, tuple) else _same(layer)
    return LayerShape(
        layer.in_channels,
        layer.out_channels,
        _pair(layer.kernel_size),
        _pair(layer.stride),
        _pair(padding),
        _pair(layer.dilation),
        layer.groups,
        (int(in_size[0]), int(in_size[1])),
    )


def _same(layer: nn.Conv2d) -> tuple[int, ...]:
    if layer.padding == "valid":
        return (0, 0)
    return tuple(d * (k - 1) // 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True))


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return (int(values[0]), int(values[-1]))


class LatencyCost:
    """Milliseconds at group widths, as :class:`deploykit.pruning.allocation.Cost` asks for it.

    ``costs``: of the network's layers as functions of widths. ``shapes``: of the layers at full width. ``table``: of
    their times. ``ladders``: the widths that each group may have. ``whole_ms``: measured time of the whole network;
    what its layers do not explain shrinks with the activations.
    """

    def __init__(
        self,
        costs: Costs,
        shapes: dict[str, LayerShape],
        table: LatencyTable,
        ladders: Sequence[Ladder],
        whole_ms: float,
    ) -> None:
        self.table = table
        self.layers: list[tuple[LayerCost, LayerShape]] = [
            (layer, shapes[layer.name]) for layer in costs.layers if layer.name in shapes
        ]
        table.prepare(
            [shape for _, shape in self.layers],
            [_possible(layer.inputs, shape.c_in, ladders) for layer, shape in self.layers],
            [_possible(layer.outputs, shape.c_out, ladders) for layer, shape in self.layers],
        )
        touched = [layer.touched for layer, _ in self.layers]
        self.touching = [[i for i, groups in enumerate(touched) if groups[g]] for g in range(len(costs.widths))]
        explained = sum(self._layer(i, costs.widths) for i in range(len(self.layers)))
        self.rest_ms = max(0.0, whole_ms - explained)
        self.written = [layer.outputs for layer, _ in self.layers]
        self.pixels = [shape.in_size[0] * shape.in_size[1] for _, shape in self.layers]
        self.full = self._elements(range(len(self.layers)), costs.widths)

    def total(self, widths: Sequence[int]) -> float:
        """Predicted milliseconds of the whole network."""
        every = range(len(self.layers))
        return self._part(every, np.asarray(widths))

    def around(self, group: int, widths: Sequence[int]) -> float:
        """Predicted milliseconds of the layers that read or write ``group``."""
        return self._part(self.touching[group], np.asarray(widths))

    def _part(self, layers: Sequence[int], widths: np.ndarray) -> float:
        rest = self.rest_ms * self._elements(layers, widths) / self.full
        return rest + sum(self._layer(i, widths) for i in layers)

    def _layer(self, i: int, widths: np.ndarray) -> float:
        layer, shape = self.layers[i]
        return self.table.time_ms(shape, round(layer.inputs(widths)), round(layer.outputs(widths)))

    def _elements(self, layers: Sequence[int], widths: np.ndarray) -> float:
        return sum(self.pixels[i] * self.written[i](widths) for i in layers)


def _possible(channels: Counter, full: int, ladders: Sequence[Ladder]) -> list[int]:
    """The widths that a dimension may have; multiples of the largest step where several groups share it."""
    moving = [int(g) for g in np.flatnonzero(channels.share)]
    if len(moving) == 1:
        share = channels.share[moving[0]]
        return [round(channels.base + share * width) for width in ladders[moving[0]].widths]
    steps = [ladders[g].widths[1] - ladders[g].widths[0] for g in moving if len(ladders[g].widths) > 2]
    step = max(steps, default=full)
    return [*range(step, full, step), full]


def losses_of(scores: np.ndarray, widths: Sequence[int], *, comparable: bool) -> tuple[float, ...]:
    """Importance lost when a group keeps its best ``widths`` channels.

    Args:
        scores: importance of each channel, not negative.
        widths: that the group may have.
        comparable: whether scores of different layers are in one unit (Taylor expansions of one loss). Others count as
            removed importance over kept importance, which for L2 is the ratio of noise to signal that the group's readers
            see. It is 0 for the whole group and grows beyond bounds as the group empties, faster than the cost falls, so
            that layers that cost alike end at like fractions; a loss that is linear in the logarithm of the width, as the
            cost is, would empty one group and leave its neighbour whole.
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float64))[::-1]
    if comparable:
        return tuple(float(ordered[width:].sum()) for width in widths)
    if not ordered.any():
        ordered = np.ones_like(ordered)
    kept = np.concatenate([[0.0], np.cumsum(ordered)])
    total = kept[-1]
    return tuple(float(total / max(kept[width], 1e-12 * total) - 1) for width in widths)
