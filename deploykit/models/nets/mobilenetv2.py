"""A small MobileNetV2 for 32-pixel images (Sandler et al. 2018, "Inverted Residuals and Linear Bottlenecks").

Table 2 of the paper with the first three strides of 2 taken out, as is usual for CIFAR, and fewer repeats.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from deploykit.base.errors import BadInput

# expansion, channels at width 1, repeats, stride of the first
STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 2, 2), (6, 64, 2, 2), (6, 96, 1, 1))
LAST = 256


class ConvBNReLU6(nn.Sequential):
    """Convolution, BatchNorm, ReLU6."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU6(),
        )


class InvertedResidual(nn.Module):
    """1×1 expansion, 3×3 depthwise, linear 1×1 projection; a skip where the shape is kept."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.skip = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            *([ConvBNReLU6(inputs, hidden, 1)] if expansion != 1 else []),
            ConvBNReLU6(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[N, inputs, H, W]`` → ``[N, outputs, H/stride, W/stride]``."""
        return x + self.conv(x) if self.skip else self.conv(x)


class MobileNetV2(nn.Module):
    """Stem, inverted residuals, 1×1 head convolution, global average pooling, dropout, one linear layer."""

    def __init__(self, num_classes: int = 10, width: float = 1.0, dropout: float = 0.2, stem_stride: int = 1) -> None:
        super().__init__()
        channels = _rounded(32 * width)
        layers: list[nn.Module] = [ConvBNReLU6(3, channels, 3, stem_stride)]
        for expansion, outputs, repeats, stride in STAGES:
            for index in range(repeats):
                after = _rounded(outputs * width)
                layers.append(InvertedResidual(channels, after, stride if index == 0 else 1, expansion))
                channels = after
        last = _rounded(LAST * max(1.0, width))
        layers.append(ConvBNReLU6(channels, last, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """``[N, 3, H, W]`` → logits ``[N, num_classes]``."""
        return self.classifier(functional.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


def _rounded(channels: float) -> int:
    """The nearest multiple of 8, at least 8, never more than 10 % below (the paper's reference code)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def mobilenetv2(num_classes: int = 10, width: float = 1.0, dropout: float = 0.2, stem_stride: int = 1) -> MobileNetV2:
    """The network, its arguments checked.

    ``num_classes``: outputs. ``width``: multiplier of all channel counts, rounded to multiples of 8. ``dropout``:
    before the linear layer. ``stem_stride``: 1, or 2 for larger images.

    Raises:
        BadInput: an argument is out of range.
    """
    if not 0 < width <= 8:
        raise BadInput("deploykit:mobilenetv2 width", got=width, expected="above 0, at most 8")
    if not 0 <= dropout < 1:
        raise BadInput("deploykit:mobilenetv2 dropout", got=dropout, expected="0 ≤ dropout < 1")
    if stem_stride not in (1, 2):
        raise BadInput("deploykit:mobilenetv2 stem_stride", got=stem_stride, expected="1 or 2")
    return MobileNetV2(num_classes, width, dropout, stem_stride)
