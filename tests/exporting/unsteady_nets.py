"""Networks whose answer to an image is not one, or hangs on Python code that looks at values; each says its own line."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Small(nn.Module):
    """A convolution, ``change`` over its answer, the mean over places, a head."""

    def __init__(self, change: Callable[[Small, Tensor], Tensor], *, after: bool = False, **parts: nn.Module) -> None:
        super().__init__()
        self.stem, self.change, self.after, self.head = nn.Conv2d(3, 8, 3, 2, 1), change, after, nn.Linear(8, 5)
        self.register_buffer("calls", torch.zeros(()), persistent=False)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.stem(x))
        return (
            self.change(self, self.head(y.mean((2, 3)))) if self.after else self.head(self.change(self, y).mean((2, 3)))
        )


def dropout_as_a_function() -> nn.Module:
    return Small(lambda _, y: F.dropout(y, 0.3))


def noise() -> nn.Module:
    return Small(lambda _, y: y + torch.randn_like(y))


def counting() -> nn.Module:
    def change(net: Small, y: Tensor) -> Tensor:
        net.calls += 1
        return y * net.calls

    return Small(change)


class Centre(nn.Module):
    def forward(self, y: Tensor) -> Tensor:
        return y - y.mean(0, keepdim=True)


def norm_of_the_batch() -> nn.Module:
    return Small(lambda net, y: net.norm(y), norm=nn.BatchNorm2d(8, track_running_stats=False))


def centred_by_the_batch() -> nn.Module:
    return Small(lambda net, y: net.centre(y), centre=Centre())


def softmax_over_the_batch() -> nn.Module:
    return Small(lambda _, y: y.softmax(0), after=True)


def squeezed() -> nn.Module:
    return Small(lambda _, y: y[:, :1].squeeze(), after=True)


def one_answer_for_all() -> nn.Module:
    return Small(lambda _, y: y.flatten(), after=True)


def for_two_images() -> nn.Module:
    return Small(lambda _, y: y.reshape(2, 8, 16, 16))


def as_many_as_there_are() -> nn.Module:
    return Small(lambda _, y: torch.where(y > 0, y, 0)[:, : int(1e4 * y[0].abs().sum()) % 5], after=True)


def steady() -> nn.Module:
    return Small(lambda net, y: net.drop(y), drop=nn.Dropout(0.5))


def branching() -> nn.Module:
    def change(_: Small, y: Tensor) -> Tensor:
        if y.mean() > 0.2:
            y = y * 0.5
        return y

    return Small(change)


def looping() -> nn.Module:
    def change(_: Small, y: Tensor) -> Tensor:
        for _ in range(1 + min(3, int(y.amax()))):
            y = F.relu(y - 0.1)
        return y

    return Small(change)


def scaled_by_a_number() -> nn.Module:
    return Small(lambda _, y: y / float(y.detach().numpy().max() + 1))


def guarded() -> nn.Module:
    def change(_: Small, y: Tensor) -> Tensor:
        return torch.nan_to_num(y) if torch.isnan(y).any() else y

    return Small(change)


def by_size() -> nn.Module:
    def change(_: Small, y: Tensor) -> Tensor:
        return F.avg_pool2d(y, 2) if y.shape[-1] > 8 else y

    return Small(change)


def by_a_weight() -> nn.Module:
    return Small(lambda net, y: y * 2 if net.head.weight[0, 0] > 1e6 else y)
