from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from deploykit.base.errors import BadInput
from deploykit.exporting.reference import run_once


class Code(nn.Module):
    """A forward of the test's own."""

    def __init__(self, forward) -> None:
        super().__init__()
        self.run, self.stem = forward, nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self.stem(x))


def flat(places: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.Flatten(), nn.Linear(2 * places, 4)).eval()


def missing(y: Tensor) -> Tensor:
    return y + y.nowhere


def too_small(y: Tensor) -> Tensor:
    if y.shape[-1] < 64:
        raise ValueError("images of at least 64 pixels")
    return y.mean((2, 3))


@pytest.mark.parametrize(
    ("net", "shape", "named"),
    [
        (flat(96 * 96), (2, 3, 64, 64), ["does not take images of 64 x 64", "layer '2'", "--size 96"]),
        (flat(45 * 45), (2, 3, 64, 64), ["--size 45"]),
        (Code(too_small), (2, 3, 32, 32), ["at least 64 pixels", "--size 224"]),
        (nn.Sequential(nn.Conv2d(1, 2, 3)), (2, 3, 8, 8), ["takes images of 1 channels", "got 3 channels"]),
        (nn.Sequential(nn.Conv2d(3, 2, 3)).double(), (2, 3, 8, 8), ["computes in float64", "expected float32"]),
        (Code(lambda y: y.view(1, 4, 8, 8)), (2, 3, 8, 8), ["one image at a time", "got a batch of 2", "--batch 1"]),
        (Code(missing), (2, 3, 8, 8), ["fails", "test_run_failure.py:", "AttributeError", "nowhere"]),
        (Code(lambda y: y[:, "a"]), (2, 3, 8, 8), ["fails", "test_run_failure.py:"]),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(5, 4, 3)),
            (2, 3, 8, 8),
            ["layer '1' (Conv2d)", "5 channels", "gets 4"],
        ),
    ],
)
def test_the_cause_is_named(net: nn.Module, shape: tuple[int, ...], named: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        run_once(net, torch.rand(shape))
    for part in named:
        assert part in caught.value.line()
    assert "Is --size right" not in caught.value.line()


def test_what_is_not_about_the_input_is_not_caught() -> None:
    def stop(_: Tensor) -> Tensor:
        raise MemoryError

    with pytest.raises(MemoryError):
        run_once(Code(stop), torch.rand(1, 3, 8, 8))
