"""The plain four-convolution network of the classic tutorial."""

from __future__ import annotations

from torch import Tensor, nn

from deploykit.base.errors import BadInput

WIDTHS = (32, 64, 128, 128)
HIDDEN = 512


class CNN4(nn.Module):
    """Four times conv 3×3 – ReLU – 2×2 max-pooling, then Linear – ReLU – Dropout – Linear.

    ``num_classes``: outputs. ``size``: height and width of the input in pixels, a multiple of 16: the first linear
    layer depends on it. ``dropout``: between the linear layers.
    """

    def __init__(self, num_classes: int = 10, size: int = 32, dropout: float = 0.5) -> None:
        super().__init__()
        channels, layers = 3, list[nn.Module]()
        for width in WIDTHS:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * (size // 16) ** 2, HIDDEN),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(HIDDEN, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[N, 3, size, size]`` → logits ``[N, num_classes]``."""
        return self.classifier(self.features(x))


def cnn4(num_classes: int = 10, size: int = 32, dropout: float = 0.5) -> CNN4:
    """The network, its arguments checked.

    Raises:
        BadInput: size is no multiple of 16, or dropout is out of range.
    """
    if not isinstance(size, int) or size < 16 or size % 16:
        raise BadInput("deploykit:cnn4 size", got=size, expected="a multiple of 16")
    if not 0 <= dropout < 1:
        raise BadInput("deploykit:cnn4 dropout", got=dropout, expected="0 ≤ dropout < 1")
    return CNN4(num_classes, size, dropout)
