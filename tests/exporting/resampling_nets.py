"""Networks with pools and resizings that PyTorch's exporters write otherwise than PyTorch computes them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIZE = 36


class Kept(nn.Module):
    """A stem, one layer, and a head over all places, so that a shifted window shows."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.stem, self.layer = nn.Conv2d(3, 4, 3, padding=1), layer
        with torch.no_grad():
            places = layer(self.stem(torch.zeros(1, 3, SIZE, SIZE))).flatten(1).shape[1]
        self.head = nn.Linear(places, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(F.relu(self.stem(x))).flatten(1))


class Call(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def stride_beyond_kernel() -> nn.Module:
    return Kept(nn.MaxPool2d(2, 5, ceil_mode=True))


def one_axis_dropped() -> nn.Module:
    return Kept(nn.MaxPool2d(3, (2, 7), padding=1, ceil_mode=True))


def functional_max() -> nn.Module:
    return Kept(Call(lambda x: F.max_pool2d(x, 4, 5, 2, ceil_mode=True)))


def mean_without_padding() -> nn.Module:
    return Kept(nn.AvgPool2d((3, 2), (7, 5), (1, 1), ceil_mode=True, count_include_pad=False))


def mean_with_padding() -> nn.Module:
    return Kept(nn.AvgPool2d(3, (5, 2), 1, ceil_mode=True))


def own_divisor() -> nn.Module:
    return Kept(nn.AvgPool2d(3, 2, 1, divisor_override=4))


def own_divisor_of_a_cut_window() -> nn.Module:
    return Kept(nn.AvgPool2d(3, 4, 1, ceil_mode=True, divisor_override=2))


def antialiased_by_factor() -> nn.Module:
    return Kept(Call(lambda x: F.interpolate(x, scale_factor=(0.37, 0.7), mode="bilinear", antialias=True)))


def antialiased_bicubic_corners() -> nn.Module:
    how = {"mode": "bicubic", "antialias": True, "align_corners": True}
    return Kept(Call(lambda x: F.interpolate(x, size=(11, 14), **how)))


def adaptive_maximum() -> nn.Module:
    return Kept(nn.AdaptiveMaxPool2d((5, None)))


def wide_output_padding() -> nn.Module:
    return Kept(nn.ConvTranspose2d(4, 3, 3, 2, 1, output_padding=2, dilation=3))


def norm_pool() -> nn.Module:
    return Kept(nn.LPPool2d(2, 2, 5, ceil_mode=True))


def random_slope() -> nn.Module:
    return Kept(nn.RReLU())
