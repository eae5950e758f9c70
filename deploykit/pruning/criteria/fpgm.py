"""``fpgm``: how far a filter is from the geometric median of its layer."""

from __future__ import annotations

import torch
from torch import nn

from deploykit.pruning.channel_graph import Graph
from deploykit.pruning.importance import Given, Scores, Tally, uses


def fpgm(module: nn.Module, graph: Graph, given: Given) -> Scores:
    """The sum of a filter's distances to the others of its layer: near the median means replaceable.

    He et al. 2019, "Filter Pruning via Geometric Median", equation 6.
    """
    tally = Tally(graph)
    for site, weight in uses(module, graph):
        if site.role == "produce":
            rows = weight.flatten(1)
            tally.add(site.labels, torch.cdist(rows, rows).sum(dim=1).double().numpy())
    return tally.means()
