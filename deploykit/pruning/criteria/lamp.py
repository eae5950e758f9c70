"""``lamp``: magnitude, made comparable between layers."""

from __future__ import annotations

import numpy as np
from torch import nn

from deploykit.pruning.channel_graph import Graph
from deploykit.pruning.criteria.magnitude import magnitude
from deploykit.pruning.importance import Given, Scores


def lamp(module: nn.Module, graph: Graph, given: Given) -> Scores:
    """A channel's squared magnitude over that of all channels of its group that are not smaller.

    Lee et al. 2021, "Layer-adaptive Sparsity for the Magnitude-based Pruning", equation 2, for channels.
    """
    found = []
    for squares in magnitude(module, graph, 2):
        order = np.argsort(squares, kind="stable")
        behind = np.cumsum(squares[order][::-1])[::-1]
        score = np.empty_like(squares)
        score[order] = squares[order] / np.maximum(behind, 1e-30)
        found.append(score)
    return found
