from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from deploykit.training.step import cross_entropy_step


def test_cross_entropy_with_smoothing_and_soft_targets() -> None:
    x, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    assert cross_entropy_step(0.1)(nn.Identity(), x, y) == functional.cross_entropy(x, y, label_smoothing=0.1)
    soft = functional.one_hot(y, 3).float()
    assert cross_entropy_step()(nn.Identity(), x, soft) == pytest.approx(functional.cross_entropy(x, y))


def test_auxiliary_heads_count_a_third() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
            return x, 2 * x, None

    x, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    expected = functional.cross_entropy(x, y) + 0.3 * functional.cross_entropy(2 * x, y)
    assert cross_entropy_step()(Two(), x, y) == pytest.approx(expected)
