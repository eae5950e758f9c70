"""Small networks with the traits that exporters meet."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def seeded(make: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().eval()


class Plain(nn.Module):
    """Conv–BN–ReLU twice with one shared in-place ReLU, a residual, pooling and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU())
        self.fc = nn.Linear(8, 5)
        for norm in (self.bn1, self.bn2):
            norm.running_mean += torch.randn(8) * 0.1
            norm.running_var *= 1.5

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)) + x)
        return self.fc(self.block(x).mean((2, 3)))


class HardBatch(nn.Module):
    """Reshapes with the batch of the example: right for that batch size only."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 8 * 8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.reshape(int(x.shape[0]), -1))


class TwoOutputs(nn.Module):
    """A segmentation-like dictionary of two maps."""

    def __init__(self) -> None:
        super().__init__()
        self.out, self.aux = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.out(x), "aux": self.aux(x)}


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x * mask


class Branching(nn.Module):
    """Decides by its data, which neither torch.export nor a trace can follow."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) if x.sum() > 0 else -x.flatten(1)


class Spectral(nn.Module):
    """An operator that ONNX lacks."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.qr(x)[0].flatten(1)
