"""Masks of single weights: the 2:4 pattern of sparse tensor cores, and unstructured magnitude pruning."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TypedDict

import torch
from torch import Tensor, nn

from deploykit.base.errors import BadInput
from deploykit.pruning.prune_channels import ASKED, layers_named

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


def eligibility(module: nn.Module, kept: Collection[str] = ()) -> dict[str, str | None]:
    """Name of every convolution and linear layer → why it is not eligible, or None; ``kept`` ones are to stay whole."""
    return {name: ASKED if name in kept else eligible(layer) for name, layer in _maskable(module).items()}


def without_masks(module: nn.Module, names: Iterable[str]) -> set[str]:
    """The convolutions and linear layers that these names of layers or modules keep whole.

    Raises:
        BadInput: no such layer (the nearest one is suggested).
    """
    known = list(_maskable(module))
    return {layer for name in names for layer in layers_named(known, name)}


def _maskable(module: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}


def two_of_four(weight: Tensor) -> Tensor:
    """A bool mask of the shape of ``weight`` [out, in, …]: of four neighbouring inputs the two of largest magnitude stay.

    Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks", section 3.1.
    """
    columns = weight.detach().abs().movedim(1, -1)
    fours = columns.reshape(-1, 4)
    kept = torch.zeros_like(fours, dtype=torch.bool).scatter_(1, fours.topk(2, dim=1).indices, True)
    return kept.reshape(columns.shape).movedim(-1, 1).contiguous()


def pattern_masks(module: nn.Module, kept: Collection[str] = ()) -> dict[str, Tensor]:
    """Weight name → 2:4 mask, for every eligible layer but those of ``kept``.

    Raises:
        BadInput: no layer is eligible; the first reasons are named.
    """
    found = eligibility(module, kept)
    layers = _maskable(module)
    masks = {f"{name}.weight": two_of_four(layers[name].weight) for name, why in found.items() if why is None}
    if not masks:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(found.items())[:3])
        fits = any(eligible(layers[name]) is None for name in kept)
        fix = "Name fewer --keep layers." if fits else "Prune with --round-to 16."
        raise BadInput("no layer can have the 2:4 pattern", got=reasons, fix=fix)
    return masks


def unstructured_masks(module: nn.Module, fraction: float, kept: Collection[str] = ()) -> dict[str, Tensor]:
    """Weight name → mask; together they keep ``fraction`` of all weights, by magnitude, in all layers but those of ``kept``.

    Han et al. 2015, "Learning both Weights and Connections for Efficient Neural Networks", with one threshold for the network.

    Raises:
        BadInput: no layer is left for them.
    """
    weights = {f"{name}.weight": layer.weight.detach() for name, layer in _maskable(module).items() if name not in kept}
    if not weights:
        raise BadInput("no layer is left for masks", fix="Name fewer --keep layers.")
    sizes = torch.cat([weight.abs().ravel() for weight in weights.values()])
    count = max(1, int(fraction * len(sizes)))
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


class SparsityFacts(TypedDict):
    """What masks do: ``zeros`` among the ``weights`` of the ``layers`` that have one; ``not_eligible``: layer without → why."""

    layers: int
    weights: int
    zeros: int
    not_eligible: dict[str, str]
    pattern: str


def sparsity_facts(
    module: nn.Module, masks: Mapping[str, Tensor], pattern: str | None, kept: Collection[str] = ()
) -> SparsityFacts:
    """What the masks do, checked on the weights themselves.

    Raises:
        AssertionError: a weight does not follow the pattern (a bug).
    """
    weights = {name: module.get_parameter(name) for name in masks}
    if pattern == "2:4":
        assert all(follows_pattern(weight) for weight in weights.values())
    zeros = sum(int((weight == 0).sum()) for weight in weights.values())
    total = sum(weight.numel() for weight in weights.values())
    reasons = dict.fromkeys(kept, ASKED) if pattern is None else eligibility(module, kept)
    not_eligible = {name: why for name, why in reasons.items() if why is not None}
    return {
        "layers": len(masks),
        "weights": total,
        "zeros": zeros,
        "not_eligible": not_eligible,
        "pattern": pattern or "unstructured",
    }
