"""Channels last, except for layers whose gradient PyTorch computes behind its memory."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from deploykit.training.modes import training_layout

GRADIENTS = """
import torch
from torch import nn
from deploykit.training.modes import training_layout
torch.set_num_threads(1)
for c_in in range(1, 20):
    for kernel, stride in ((1, 1), (1, 2), (1, 3), (2, 2), (3, 1), (3, 2), (7, 2)):
        layer = nn.Conv2d(c_in, 8, kernel, stride, kernel // 2, bias=False)
        layout, _ = training_layout(layer, "cpu", channels_last=True)
        layer = layer.to(memory_format=layout)
        for _ in range(4):
            x = torch.randn(32, c_in, 16, 16).to(memory_format=layout).requires_grad_()
            layer(x).square().sum().backward()
"""


def test_no_gradient_writes_behind_its_memory() -> None:
    done = subprocess.run([sys.executable, "-c", GRADIENTS], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("layer", "wanted"),
    [
        (nn.Conv2d(5, 8, 1, 2), torch.contiguous_format),
        (nn.Conv2d(8, 8, 1, 2), torch.channels_last),
        (nn.Conv2d(5, 8, 1, 1), torch.channels_last),
        (nn.Conv2d(3, 8, 3, 2), torch.channels_last),
    ],
)
def test_only_narrow_strided_projections_keep_a_network_from_channels_last(
    layer: nn.Module, wanted: torch.memory_format
) -> None:
    layout, said = training_layout(nn.Sequential(layer), "cpu", channels_last=True)
    assert layout is wanted
    told = "channels first: 0 is too narrow for the kernels of channels last"
    assert said == (None if wanted is torch.channels_last else told)
    assert training_layout(layer, "cuda", channels_last=True) == (torch.channels_last, None)
    assert training_layout(layer, "cpu", channels_last=False) == (torch.contiguous_format, None)
