"""``activation``: how large a channel's output is on images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from deploykit.models.device import beside
from deploykit.pruning.channel_graph import Graph
from deploykit.pruning.importance import Given, Scores, Tally
from deploykit.pruning.records import Site


def activation(module: nn.Module, graph: Graph, given: Given) -> Scores:
    """The mean |a| of what the channel's readers receive, after BatchNorm and activation.

    Molchanov et al. 2017, "Pruning Convolutional Neural Networks for Resource Efficient Inference", section 2.2.
    """
    tally = Tally(graph)
    handles = []
    for site in graph.sites:
        if site.role == "consume":
            layer = module.get_submodule(site.tensor.rpartition(".")[0])
            handles.append(layer.register_forward_pre_hook(_listener(tally, site)))
    try:
        with torch.no_grad():
            for x, _ in given.batches:
                module(beside(module, x))
    finally:
        for handle in handles:
            handle.remove()
    return tally.means()


def _listener(tally: Tally, site: Site) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def listen(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].abs()
        dim = values.ndim - 1 if isinstance(layer, nn.Linear) else 1
        others = [at for at in range(values.ndim) if at != dim]
        tally.add(site.labels, values.mean(dim=others).double().cpu().numpy())

    return listen
