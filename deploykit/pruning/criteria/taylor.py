"""``taylor``: what the loss changes by when a channel goes, to first order."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from deploykit.models.batch_norm import BatchNorm
from deploykit.pruning.channel_graph import Graph
from deploykit.pruning.criteria.gradients import mean_of_products
from deploykit.pruning.importance import Given, Scores
from deploykit.pruning.records import Site


def taylor(module: nn.Module, graph: Graph, given: Given) -> Scores:
    """The mean over batches of (Σ g·w)²: the first-order change of the loss when the channel is zeroed, squared.

    The sum runs over the scale and shift of the BatchNorms behind the channel (a gate), without one over its filter and bias.
    Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning", equations 8 and 9.
    """
    return mean_of_products(module, graph, given.batches, _gates(module, graph), torch.mul, power=2)


def _gates(module: nn.Module, graph: Graph) -> list[Site]:
    """The parameters whose zeroing switches a channel off: BatchNorms' where there are any, else filters and biases."""
    layers = dict(module.named_modules())
    parameters = dict(module.named_parameters())
    known = [site for site in graph.sites if site.tensor in parameters]
    norms = [site for site in known if isinstance(layers.get(site.tensor.rpartition(".")[0]), BatchNorm)]
    gated = np.zeros(int(graph.root.max(initial=0)) + 1, dtype=bool)
    for site in norms:
        gated[graph.root[site.labels]] = True
    filters = [
        site
        for site in known
        if site.role != "consume" and site not in norms and not gated[graph.root[site.labels]].any()
    ]
    return norms + filters
