"""What of a network is trained, and in which mode its parts run meanwhile."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from deploykit.base.errors import BadInput


def freeze_all_but(module: nn.Module, head: str) -> int:
    """Stop the gradients of everything but the layer ``head``.

    Returns:
        The number of parameters that stay trained.

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
        if isinstance(layer, _BatchNorm) and parameters and not any(p.requires_grad for p in parameters):
            layer.eval()
