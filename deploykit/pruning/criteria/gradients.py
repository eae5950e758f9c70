"""Gradients of the loss on images, and what criteria that expand it sum up from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from deploykit.models.device import beside
from deploykit.pruning.channel_graph import Graph
from deploykit.pruning.importance import Batches, Scores, Tally, per_index
from deploykit.pruning.records import Site


def mean_of_products(
    module: nn.Module,
    graph: Graph,
    batches: Batches,
    sites: Sequence[Site],
    product: Callable[[Tensor, Tensor], Tensor],
    power: int = 1,
) -> Scores:
    """The mean over batches of (Σ product(g, w))^power, summed over a channel's share of ``sites``, for gradients g, weights w."""
    total = [np.zeros(group.width) for group in graph.groups]
    count = 0
    with wanting_gradients(module):
        parameters = dict(module.named_parameters())
        for x, y in batches:
            gradients = gradients_on(module, parameters, x, y)
            tally = Tally(graph)
            for site in sites:
                tally.add(
                    site.labels, per_index(product(gradients[site.tensor], parameters[site.tensor].detach()), site)
                )
            for index, group in enumerate(graph.groups):
                total[index] += tally.total[group.atoms] ** power
            count += 1
    return [one / max(count, 1) for one in total]


def gradients_on(
    module: nn.Module, parameters: Mapping[str, Tensor], x: np.ndarray, y: np.ndarray
) -> dict[str, Tensor]:
    """The gradient of the mean cross-entropy by each parameter; zeros where it does not depend on one."""
    loss = functional.cross_entropy(module(beside(module, x)), beside(module, y))
    given = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {
        name: torch.zeros_like(tensor) if gradient is None else gradient
        for (name, tensor), gradient in zip(parameters.items(), given, strict=True)
    }


@contextmanager
def wanting_gradients(module: nn.Module) -> Iterator[None]:
    """Frozen parameters have gradients too inside, and are frozen again after."""
    before = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    module.requires_grad_(True)
    try:
        yield
    finally:
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(before[name])
