"""Penalties that make channels weak while a network trains, so that removing them later costs less."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from deploykit.base.errors import BadInput
from deploykit.models.batch_norm import BatchNorm
from deploykit.pruning.check_graph import prunable_graph

Penalty = Callable[[nn.Module], Tensor]
WRAPPERS = ("_forward_module.", "module.")


def penalty_for(kind: Literal["bn-scale", "group-norm"], module: nn.Module, size: tuple[int, int]) -> Penalty:
    """A function from the network (or a copy, or one wrapped for several processes) to its penalty, a scalar.

    ``bn-scale``: Σ|gamma| over the BatchNorms (Liu et al. 2017, "Network Slimming", equation 1). ``group-norm``: Σ of the L2 norms of
    all weights that a removable channel stands for, over all channels (Fang et al. 2023, "DepGraph", equation 5, with equal
    weights; the group lasso of Wen et al. 2016).

    ``module``: the network before training. ``size``: (height, width) of its input in pixels.

    Raises:
        BadInput: no BatchNorm, or no channel that can be removed.
    """
    return _scales(module) if kind == "bn-scale" else _norms(module, size)


def _scales(module: nn.Module) -> Penalty:
    names = [
        f"{name}.weight" for name, layer in module.named_modules() if isinstance(layer, BatchNorm) and layer.affine
    ]
    if not names:
        raise BadInput("bn-scale needs BatchNorm layers, and the network has none", fix="Use --sparsify group-norm.")

    def penalty(network: nn.Module) -> Tensor:
        parameters = _by_name(network)
        return torch.stack([parameters[name].abs().sum() for name in names]).sum()

    return penalty


def _norms(module: nn.Module, size: tuple[int, int]) -> Penalty:
    graph = prunable_graph(module, size)
    place = {int(atom): index for index, atom in enumerate(atom for group in graph.groups for atom in group.atoms)}
    known = dict(module.named_parameters())
    uses = []
    for site in graph.sites:
        if site.tensor in known and site.labels.ndim == 1 and not site.tensor.endswith("bias"):
            atoms = [place.get(int(atom), len(place)) for atom in graph.root[site.labels]]
            uses.append((site.tensor, site.dim, torch.tensor(atoms)))

    def penalty(network: nn.Module) -> Tensor:
        parameters = _by_name(network)
        total = torch.zeros(len(place) + 1, device=next(iter(parameters.values())).device)
        for name, dim, atoms in uses:
            squares = (
                parameters[name].square().transpose(0, dim).flatten(1).sum(1)
                if parameters[name].ndim > 1
                else parameters[name].square()
            )
            total = total.index_add(0, atoms.to(total.device), squares.float())
        return (total[:-1] + 1e-12).sqrt().sum()

    return penalty


def _by_name(network: nn.Module) -> dict[str, nn.Parameter]:
    found = {}
    for name, parameter in network.named_parameters():
        for wrapper in WRAPPERS:
            name = name.removeprefix(wrapper)
        found[name] = parameter
    return found
