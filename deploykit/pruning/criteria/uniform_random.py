"""``random``: chance."""

from __future__ import annotations

import numpy as np
from torch import nn

from deploykit.pruning.channel_graph import Graph
from deploykit.pruning.importance import Given, Scores


def uniform_random(module: nn.Module, graph: Graph, given: Given) -> Scores:
    """Uniform random numbers: the baseline every criterion has to beat."""
    random = np.random.default_rng(given.seed)
    return [random.random(group.width) for group in graph.groups]
