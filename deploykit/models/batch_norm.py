"""BatchNorm statistics estimated anew from pictures, without training."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from deploykit.base.errors import BadInput
from deploykit.models.device import beside


def reestimate_batch_norm(module: nn.Module, batches: Iterable[np.ndarray]) -> int:
    """Set the running means and variances of ``module`` to their averages over ``batches``, in place.

    Only BatchNorm layers run in training mode, so that dropout stays off; no weight changes.

    Args:
        module: in eval mode; it is left so.
        batches: prepared inputs, float32 [N, C, H, W], of more than one picture each.

    Returns:
        The number of BatchNorm layers.

    Raises:
        BadInput: no layer with running statistics; no batch of two pictures or more.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.running_mean is not None]
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
