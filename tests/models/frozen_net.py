"""A user's network with torchvision's frozen BatchNorm, and the same one with the ordinary."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d


class Net(nn.Module):
    def __init__(self, norm: type[nn.Module], num_classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), norm(8, eps=1e-3)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), norm(8, eps=1e-3)
        self.fc = nn.Linear(8, num_classes)
        generator = torch.Generator().manual_seed(0)
        for one in (self.bn1, self.bn2):
            for name in ("weight", "bias", "running_mean", "running_var"):
                drawn = torch.rand(8, generator=generator) + 0.5 * (name != "bias")
                getattr(one, name).data.copy_(drawn)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        return self.fc(self.bn2(self.conv2(x)).relu().mean((2, 3)))


def frozen(num_classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    return Net(FrozenBatchNorm2d, num_classes)


def ordinary(num_classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    return Net(nn.BatchNorm2d, num_classes)
