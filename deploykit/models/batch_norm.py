"""What a BatchNorm is, torchvision's frozen one included, and statistics estimated anew from pictures."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from deploykit.base.errors import BadInput
from deploykit.models.device import beside

__all__ = ["BatchNorm", "as_batch_norm", "reestimate_batch_norm"]


def as_batch_norm(module: nn.Module) -> nn.Module:
    """``module`` with a BatchNorm in place of each ``torchvision.ops.FrozenBatchNorm2d``, in place.

    It computes the same, x·s + (β − μ·s) with s = γ/√(σ² + ε), up to rounding. Its parameters want no gradient, so that
    training leaves its statistics alone too (:func:`deploykit.training.modes.train_mode`).
    """
    frozen = getattr(sys.modules.get("torchvision.ops.misc"), "FrozenBatchNorm2d", None)
    if frozen is None:  # torchvision was never imported: no network holds one
        return module
    for parent in list(module.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, frozen):
                place = {"device": layer.weight.device, "dtype": layer.weight.dtype}
                norm = nn.BatchNorm2d(len(layer.weight), layer.eps, **place).requires_grad_(False)
                norm.load_state_dict(layer.state_dict(), strict=False)  # which counts no batches
                setattr(parent, name, norm)
    return module


def reestimate_batch_norm(module: nn.Module, batches: Iterable[np.ndarray]) -> int:
    """Set the running means and variances of ``module`` to their averages over ``batches``, in place.

    Only BatchNorm layers run in training mode, so that dropout stays off; no weight changes.

    ``module``: in eval mode; it is left so. ``batches``: prepared inputs, float32 [N, C, H, W], of more than one
    picture each. Returns the number of BatchNorm layers.

    Raises:
        BadInput: no layer with running statistics; no batch of two pictures or more.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, BatchNorm) and layer.running_mean is not None]
    if not layers:
        raise BadInput("BatchNorm cannot be re-estimated: the network has none", fix="Leave --batch-norm at keep.")
    kept = [layer.momentum for layer in layers]
    before = [{name: value.clone() for name, value in layer.state_dict().items()} for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain average over all batches
        layer.train()
    seen = 0
    try:
        with torch.no_grad():
            for batch in batches:
                if len(batch) > 1:
                    module(beside(module, batch))
                    seen += 1
    finally:
        for layer, momentum, state in zip(layers, kept, before, strict=True):
            layer.momentum = momentum
            layer.eval()
            if not seen:
                layer.load_state_dict(state)
    if not seen:
        raise BadInput("BatchNorm cannot be re-estimated", got="no batch", expected="two pictures or more at once")
    return len(layers)
