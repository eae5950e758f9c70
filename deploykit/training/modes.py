"""What of a network is trained, and in which mode and memory format its parts run meanwhile."""

from __future__ import annotations

import torch
from torch import nn

from deploykit.base.errors import BadInput
from deploykit.models.batch_norm import BatchNorm


def freeze_all_but(module: nn.Module, head: str) -> int:
    """Stop the gradients of everything but the layer ``head``.

    Returns the number of parameters that stay trained.

    Raises:
        BadInput: the head has no parameters.
    """
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name.startswith(f"{head}."))
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    if not trained:
        raise BadInput(f"the head {head} has no parameters to train")
    return trained


def train_mode(module: nn.Module) -> None:
    """Training mode, but for BatchNorm layers whose parameters are frozen: their statistics stay as they are."""
    module.train()
    for layer in module.modules():
        parameters = list(layer.parameters(recurse=False))
        if isinstance(layer, BatchNorm) and parameters and not any(p.requires_grad for p in parameters):
            layer.eval()


_NARROW = 8


def training_layout(module: nn.Module, device: str, *, channels_last: bool) -> tuple[torch.memory_format, str | None]:
    """The memory format to train ``module`` in.

    On CPUs without AVX-512 the gradient of a strided 1×1 convolution with fewer than 8 input channels, in channels
    last, writes behind its memory in oneDNN (PyTorch 2.14.1): the process dies of it sooner or later. Such layers stand
    in the shortcuts of very narrow networks, which gain nothing from channels last.

    ``device``: ``cpu`` or ``cuda``. ``channels_last``: whether it is wanted. Returns the format, and what to tell the
    user where it is not the one that is wanted.
    """
    if not channels_last:
        return torch.contiguous_format, None
    if device == "cpu":
        for name, layer in module.named_modules():
            narrow = isinstance(layer, nn.Conv2d) and layer.in_channels < _NARROW
            if narrow and set(layer.kernel_size) == {1} and max(layer.stride) > 1:
                return torch.contiguous_format, f"channels first: {name} is too narrow for the kernels of channels last"
    return torch.channels_last, None
