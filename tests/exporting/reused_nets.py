"""Networks that use one layer, one BatchNorm or one weight several times."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Reused(nn.Module):
    """A stem, parts by name, and ``run`` over the parts and the stem's answer; the head takes 16 means."""

    def __init__(self, run: Callable[[Reused, Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.stem, self.run, self.head = nn.Conv2d(3, 8, 3, 2, 1), run, nn.Linear(16, 5)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.run(self, F.relu(self.stem(x))))


def means(*maps: Tensor) -> Tensor:
    return torch.cat([one.mean((2, 3)) for one in maps], 1)


def block(bias: bool = False) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, bias=bias), nn.BatchNorm2d(8), nn.ReLU())


def shared_head() -> nn.Module:
    """One Conv+BatchNorm block over two levels, as a detector's head."""
    return Reused(lambda net, y: means(net.tower(y), net.tower(F.max_pool2d(y, 2))), tower=block(bias=True))


def recurrent() -> nn.Module:
    """One block three times in a row, and what it made the second time beside it."""

    def run(net: Reused, y: Tensor) -> Tensor:
        steps = [y]
        for _ in range(3):
            steps.append(net.tower(steps[-1]) + y)
        return means(steps[2], steps[3])

    return Reused(run, tower=block())


def norm_for_each_use() -> nn.Module:
    """One convolution, a BatchNorm of its own at each use (their scales are equal constants)."""

    def run(net: Reused, y: Tensor) -> Tensor:
        return means(*(F.relu(norm(net.conv(y))) for norm in net.norms))

    return Reused(run, conv=nn.Conv2d(8, 8, 3, 1, 1), norms=nn.ModuleList(nn.BatchNorm2d(8) for _ in range(2)))


def norm_over_several() -> nn.Module:
    """One BatchNorm behind two convolutions, one of which is also read without it."""

    def run(net: Reused, y: Tensor) -> Tensor:
        a, b = net.conv(y), net.other(y)
        return means(net.norm(a) * b, net.norm(b))

    return Reused(run, conv=nn.Conv2d(8, 8, 3, 1, 1), other=nn.Conv2d(8, 8, 1), norm=nn.BatchNorm2d(8))


def with_and_without() -> nn.Module:
    """One convolution, once with a BatchNorm and once bare."""
    return Reused(
        lambda net, y: means(net.norm(net.conv(y)), net.conv(F.relu(y))),
        conv=nn.Conv2d(8, 8, 3),
        norm=nn.BatchNorm2d(8),
    )


def tied() -> nn.Module:
    """A transposed convolution with the weight of a convolution, a BatchNorm behind each."""

    def run(net: Reused, y: Tensor) -> Tensor:
        down = F.relu(net.norm(net.conv(y)))
        return means(down, net.norm2(net.up(down)))

    parts = {"conv": nn.Conv2d(8, 8, 3, 2, 1), "up": nn.ConvTranspose2d(8, 8, 3, 2, 1, output_padding=1)}
    net = Reused(run, **parts, norm=nn.BatchNorm2d(8), norm2=nn.BatchNorm2d(8))
    net.up.weight = net.conv.weight
    return net


def linear_twice() -> nn.Module:
    """A Linear with BatchNorm1d, twice."""

    def run(net: Reused, y: Tensor) -> Tensor:
        z = y.mean((2, 3))
        first = net.norm(net.fc(z))
        return torch.cat([first, net.norm(net.fc(F.relu(first)))], 1)

    return Reused(run, fc=nn.Linear(8, 8), norm=nn.BatchNorm1d(8))
