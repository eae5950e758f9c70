"""``hessian``: what the loss changes by when a channel goes, to second order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import nn

from deploykit.pruning.channel_graph import Graph
from deploykit.pruning.criteria.gradients import gradients_on, wanting_gradients
from deploykit.pruning.importance import Batches, Given, Scores, Tally, per_index

HESSIAN_PICTURES = 64


def hessian(module: nn.Module, graph: Graph, given: Given) -> Scores:
    """½ Σ w²·E[g²] over a channel's filters, the Hessian's diagonal taken as the Fisher information of single pictures.

    LeCun et al. 1990, "Optimal Brain Damage", equation 5; the first 64 pictures are used.
    """
    total = [np.zeros(group.width) for group in graph.groups]
    seen = 0
    with wanting_gradients(module):
        parameters = dict(module.named_parameters())
        sites = [site for site in graph.sites if site.role == "produce"]
        for x, y in _singly(given.batches, HESSIAN_PICTURES):
            gradients = gradients_on(module, parameters, x, y)
            tally = Tally(graph)
            for site in sites:
                product = 0.5 * (gradients[site.tensor] * parameters[site.tensor].detach()) ** 2
                tally.add(site.labels, per_index(product, site))
            for index, group in enumerate(graph.groups):
                total[index] += tally.total[group.atoms]
            seen += 1
    return [one / max(seen, 1) for one in total]


def _singly(batches: Batches, limit: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    seen = 0
    for x, y in batches:
        for index in range(len(x)):
            if seen == limit:
                return
            yield x[index : index + 1], y[index : index + 1]
            seen += 1
