"""Gradients of the loss on images, for criteria that expand it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from deploykit.models.device import beside


def gradients_on(
    module: nn.Module, parameters: Mapping[str, Tensor], x: np.ndarray, y: np.ndarray
) -> dict[str, Tensor]:
    """The gradient of the mean cross-entropy by each parameter; zeros where it does not depend on one."""
    loss = functional.cross_entropy(module(beside(module, x)), beside(module, y))
    given = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {
        name: torch.zeros_like(tensor) if gradient is None else gradient
        for (name, tensor), gradient in zip(parameters.items(), given, strict=True)
    }


@contextmanager
def wanting_gradients(module: nn.Module) -> Iterator[None]:
    """Frozen parameters have gradients too inside, and are frozen again after."""
    before = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    module.requires_grad_(True)
    try:
        yield
    finally:
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(before[name])
