"""Masks of single weights: the 2:4 pattern of sparse tensor cores, and unstructured magnitude pruning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from deploykit.base.errors import BadInput

INPUTS, OUTPUTS = 16, 8
"""Multiples of channels that sparse kernels need."""


def eligible(layer: nn.Module) -> str | None:
    """Why a sparse engine could not use a 2:4 pattern in this layer; None: it could.

    Convolutions and linear layers without groups, input channels a multiple of 16 and outputs of 8.
    """
    if not isinstance(layer, nn.Conv2d | nn.Linear):
        return "no convolution or linear layer"
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        return "it has groups"
    outputs, inputs = layer.weight.shape[:2]
    if inputs % INPUTS:
        return f"{inputs} input channels are no multiple of {INPUTS}"
    if outputs % OUTPUTS:
        return f"{outputs} output channels are no multiple of {OUTPUTS}"
    return None


def eligibility(module: nn.Module) -> dict[str, str | None]:
    """Name of every convolution and linear layer → why it is not eligible, or None."""
    return {name: eligible(layer) for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}


def two_of_four(weight: Tensor) -> Tensor:
    """A bool mask of the shape of ``weight`` [out, in, …]: of four neighbouring inputs the two of largest magnitude stay.

    Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks", section 3.1.
    """
    columns = weight.detach().abs().movedim(1, -1)
    fours = columns.reshape(-1, 4)
    kept = torch.zeros_like(fours, dtype=torch.bool).scatter_(1, fours.topk(2, dim=1).indices, True)
    return kept.reshape(columns.shape).movedim(-1, 1).contiguous()


def pattern_masks(module: nn.Module) -> dict[str, Tensor]:
    """Weight name → 2:4 mask, for every eligible layer.

    Raises:
        BadInput: no layer is eligible; the first reasons are named.
    """
    found = eligibility(module)
    layers = dict(module.named_modules())
    masks = {}
    for name, why in found.items():
        weight = layers[name].weight
        assert isinstance(weight, Tensor)
        if why is None:
            masks[f"{name}.weight"] = two_of_four(weight)
    if not masks:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(found.items())[:3])
        raise BadInput("no layer can have the 2:4 pattern", got=reasons, fix="Prune with --round-to 16.")
    return masks


def unstructured_masks(module: nn.Module, kept: float) -> dict[str, Tensor]:
    """Weight name → mask that keeps the fraction ``kept`` of all weights of convolutions and linear layers, by magnitude.

    Han et al. 2015, "Learning both Weights and Connections for Efficient Neural Networks", with one threshold for the network.
    """
    weights = {
        f"{name}.weight": layer.weight.detach()
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    }
    sizes = torch.cat([weight.abs().ravel() for weight in weights.values()])
    count = max(1, int(kept * len(sizes)))
    flat = torch.zeros(len(sizes), dtype=torch.bool)
    flat[sizes.topk(count).indices] = True
    parts = flat.split([weight.numel() for weight in weights.values()])
    return {name: part.reshape(weight.shape) for (name, weight), part in zip(weights.items(), parts, strict=True)}


def apply_masks(module: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set the weights that the masks leave out to zero, in place."""
    with torch.no_grad():
        for name, mask in masks.items():
            module.get_parameter(name).mul_(mask)


def follows_pattern(weight: Tensor) -> bool:
    """Whether at most two of four neighbouring inputs are other than zero."""
    if weight.shape[1] % 4:
        return False
    fours = weight.detach().movedim(1, -1).reshape(-1, 4)
    return bool(((fours != 0).sum(dim=1) <= 2).all())


def sparsity_facts(module: nn.Module, masks: Mapping[str, Tensor], pattern: str | None) -> dict[str, Any]:
    """What the masks do, checked on the weights themselves.

    Raises:
        AssertionError: a weight does not follow the pattern (a bug).
    """
    weights = {name: module.get_parameter(name) for name in masks}
    if pattern == "2:4":
        assert all(follows_pattern(weight) for weight in weights.values())
    zeros = sum(int((weight == 0).sum()) for weight in weights.values())
    total = sum(weight.numel() for weight in weights.values())
    not_eligible = {} if pattern is None else {n: why for n, why in eligibility(module).items() if why is not None}
    return {"layers": len(masks), "weights": total, "zeros": zeros, "not_eligible": not_eligible}
