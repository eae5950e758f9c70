"""The CIFAR-style ResNet family (He et al. 2015, "Deep Residual Learning for Image Recognition", section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from deploykit.base.errors import BadInput


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a skip; a 1×1 projection where the shape changes (option B of the paper)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """``[N, inputs, H, W]`` → ``[N, outputs, H/stride, W/stride]``."""
        skip = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(x)) + skip)


class ResNet(nn.Module):
    """Stem, three stages of :class:`BasicBlock`, global average pooling, one linear layer.

    ``num_classes``: outputs. ``depth``: 6n + 2 layers (8, 14, 20, 56 …). ``widths``: channels of the three stages.
    ``stem_stride``: 1, or 2 to halve the resolution at once (a quarter of the MACs).
    """

    def __init__(
        self, num_classes: int = 10, depth: int = 20, widths: Sequence[int] = (16, 32, 64), stem_stride: int = 1
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        blocks = (depth - 2) // 6
        self.layer1 = _stage(widths[0], widths[0], blocks, stride=1)
        self.layer2 = _stage(widths[0], widths[1], blocks, stride=2)
        self.layer3 = _stage(widths[1], widths[2], blocks, stride=2)
        self.fc = nn.Linear(widths[2], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """``[N, 3, H, W]`` → logits ``[N, num_classes]``."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        BasicBlock(inputs, outputs, stride), *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1))
    )


def resnet(
    num_classes: int = 10, depth: int = 20, widths: Sequence[int] = (16, 32, 64), stem_stride: int = 1
) -> ResNet:
    """The network, its arguments checked.

    Raises:
        BadInput: depth is not 6n + 2, widths are not three positive integers, or stem_stride is neither 1 nor 2.
    """
    if not isinstance(depth, int) or depth < 8 or (depth - 2) % 6:
        raise BadInput("deploykit:resnet depth", got=depth, expected="6n + 2: 8, 14, 20, … 56")
    if len(widths) != 3 or not all(isinstance(width, int) and width > 0 for width in widths):
        raise BadInput("deploykit:resnet widths", got=list(widths), expected="three positive integers")
    if stem_stride not in (1, 2):
        raise BadInput("deploykit:resnet stem_stride", got=stem_stride, expected="1 or 2")
    return ResNet(num_classes, depth, widths, stem_stride)
