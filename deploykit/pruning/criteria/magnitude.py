"""``l1`` and ``l2``: how large a channel's weights are."""

from __future__ import annotations

from torch import nn

from deploykit.pruning.channel_graph import Graph
from deploykit.pruning.importance import Given, Scores, Tally, per_index, uses


def l1(module: nn.Module, graph: Graph, given: Given) -> Scores:
    """:func:`magnitude` of power 1."""
    return magnitude(module, graph, 1)


def l2(module: nn.Module, graph: Graph, given: Given) -> Scores:
    """:func:`magnitude` of power 2."""
    return magnitude(module, graph, 2)


def magnitude(module: nn.Module, graph: Graph, power: int) -> Scores:
    """The mean over all coupled slices (filters, the columns that read them, scales) of Σ|w|^power.

    Li et al. 2017, "Pruning Filters for Efficient ConvNets", section 3.1 (L1 of filters), over groups as in Fang et al. 2023,
    "DepGraph: Towards Any Structural Pruning", section 3.3.
    """
    tally = Tally(graph)
    for site, weight in uses(module, graph):
        if site.tensor.endswith("bias"):
            continue
        tally.add(site.labels, per_index(weight.abs().pow(power), site))
    return tally.means()
