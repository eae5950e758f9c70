"""Remove channels from a network, in place."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from deploykit.models.reshape import reshape
from deploykit.pruning.channel_graph import Graph
from deploykit.pruning.records import FIXED, Site


def remaining(graph: Graph, removed: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which of these channels stay: bool, of the shape of ``labels``; ``removed`` is bool over atom ids."""
    return ~removed[graph.root[labels]]


def no_atoms(graph: Graph) -> np.ndarray:
    """A selection of atoms with none in it: bool over atom ids."""
    return np.zeros(int(graph.root.max(initial=0)) + 1, dtype=bool)


def remove(module: nn.Module, graph: Graph, removed: np.ndarray) -> dict[str, Tensor]:
    """Take the atoms ``removed`` (bool over atom ids) out of ``module``, in place.

    Tensors and the layers' attributes (channels, features, groups) change; a parameter used by several modules stays shared.

    Returns the new tensors by name.
    """
    assert not removed[FIXED]
    state = _shared_state(module)
    by_tensor: dict[str, list[Site]] = {}
    for site in graph.sites:
        by_tensor.setdefault(site.tensor, []).append(site)
    shapes: dict[str, tuple[int, ...]] = {}
    new: dict[str, Tensor] = {}
    for name, sites in by_tensor.items():
        tensor, names = state[name]
        cut = _cut(tensor.detach(), sites, graph, removed)
        if cut.shape != tensor.shape:
            new |= dict.fromkeys(names, cut)
            shapes |= {each: tuple(cut.shape) for each in names}
    reshape(module, shapes)
    _put_back(module, state, new)
    return new


def mask(module: nn.Module, graph: Graph, removed: np.ndarray) -> None:
    """Set every weight that reads one of the atoms ``removed`` to zero, in place: nobody reads them any more.

    Gates and norms act on each channel alone, so that what a removed channel carries reaches no output: the network then
    computes what :func:`remove` leaves.
    """
    state = module.state_dict()
    with torch.no_grad():
        for site in graph.sites:
            if (site.tensor, site.dim) not in graph.records.read:
                continue
            stays = torch.from_numpy(remaining(graph, removed, site.labels))
            weight = state[site.tensor]
            if stays.ndim == 1:
                weight.index_fill_(site.dim, torch.nonzero(~stays).ravel(), 0.0)
            else:
                rows = weight.view(len(stays), -1, *weight.shape[1:])
                for block, keep in zip(rows, stays, strict=True):
                    block[:, ~keep] = 0.0


def _shared_state(module: nn.Module) -> dict[str, tuple[Tensor, list[str]]]:
    """First name of every parameter and buffer → it and all its names."""
    found: dict[int, tuple[Tensor, list[str]]] = {}
    for named in (module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False)):
        for name, tensor in named:
            found.setdefault(id(tensor), (tensor, []))[1].append(name)
    return {names[0]: (tensor, names) for tensor, names in found.values()}


def _cut(tensor: Tensor, sites: list[Site], graph: Graph, removed: np.ndarray) -> Tensor:
    grouped = [site for site in sites if site.labels.ndim == 2]
    if grouped:
        stays = remaining(graph, removed, grouped[0].labels)
        rows = tensor.reshape(len(stays), -1, *tensor.shape[1:])
        tensor = torch.cat(
            [
                block[:, torch.from_numpy(np.flatnonzero(keep)).to(tensor.device)]
                for block, keep in zip(rows, stays, strict=True)
            ]
        )
    for site in sites:
        if site.labels.ndim == 1:
            stays = remaining(graph, removed, site.labels)
            if not stays.all():
                tensor = tensor.index_select(site.dim, torch.from_numpy(np.flatnonzero(stays)).to(tensor.device))
    return tensor


def _put_back(module: nn.Module, state: dict[str, tuple[Tensor, list[str]]], new: dict[str, Tensor]) -> None:
    """Give every module its new tensor; one that was shared is shared again, and gradients are asked for as before."""
    for tensor, names in state.values():
        if names[0] not in new:
            continue
        value: Tensor = new[names[0]].contiguous()
        if isinstance(tensor, nn.Parameter):
            value = nn.Parameter(value.clone(), requires_grad=tensor.requires_grad)
        for name in names:
            place, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(place), leaf, value)
