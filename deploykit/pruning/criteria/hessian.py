"""``hessian``: what the loss changes by when a channel goes, to second order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import nn

from deploykit.pruning.channel_graph import Graph
from deploykit.pruning.criteria.gradients import mean_of_products
from deploykit.pruning.importance import Batches, Given, Scores

HESSIAN_PICTURES = 64


def hessian(module: nn.Module, graph: Graph, given: Given) -> Scores:
    """½ Σ w²·E[g²] over a channel's filters, the Hessian's diagonal taken as the Fisher information of single pictures.

    LeCun et al. 1990, "Optimal Brain Damage", equation 5; the first 64 pictures are used.
    """
    sites = [site for site in graph.sites if site.role == "produce"]
    pictures = _singly(given.batches, HESSIAN_PICTURES)
    return mean_of_products(module, graph, pictures, sites, lambda g, w: 0.5 * (g * w) ** 2)


def _singly(batches: Batches, limit: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    seen = 0
    for x, y in batches:
        for index in range(len(x)):
            if seen == limit:
                return
            yield x[index : index + 1], y[index : index + 1]
            seen += 1
