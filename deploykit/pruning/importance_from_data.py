"""What each channel is worth, from pictures: Taylor, Hessian, activation.

The criteria stream over the pictures; ``batches`` gives (x float32 [N, 3, H, W], labels int64 [N] in the order of the outputs).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from deploykit.models.device import beside
from deploykit.pruning.graph import Graph
from deploykit.pruning.importance import Scores, Tally, per_index
from deploykit.pruning.records import Site

Batches = Iterable[tuple[np.ndarray, np.ndarray]]
HESSIAN_PICTURES = 64


def data_scores(module: nn.Module, graph: Graph, name: str, batches: Batches) -> Scores:
    """The scores of taylor, hessian or activation; ``module`` is in eval mode and is not changed."""
    criteria: dict[str, Callable[[nn.Module, Graph, Batches], Scores]] = {
        "taylor": taylor,
        "hessian": hessian,
        "activation": activation,
    }
    return criteria[name](module, graph, batches)


def taylor(module: nn.Module, graph: Graph, batches: Batches) -> Scores:
    """The mean over batches of (Σ g·w)²: the first-order change of the loss when the channel is zeroed, squared.

    The sum runs over the scale and shift of the BatchNorms behind the channel (a gate), without one over its filter and bias.
    Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning", equations 8 and 9.
    """
    total = [np.zeros(group.width) for group in graph.groups]
    count = 0
    with _wanting_gradients(module):
        parameters = dict(module.named_parameters())
        sites = _gates(module, graph)
        for x, y in batches:
            gradients = _gradients(module, parameters, x, y)
            tally = Tally(graph)
            for site in sites:
                product = gradients[site.tensor] * parameters[site.tensor].detach()
                tally.add(site.labels, per_index(product, site))
            for index, group in enumerate(graph.groups):
                total[index] += tally.total[group.atoms] ** 2
            count += 1
    return [one / max(count, 1) for one in total]


def hessian(module: nn.Module, graph: Graph, batches: Batches) -> Scores:
    """½ Σ w²·E[g²] over a channel's filters, the Hessian's diagonal taken as the Fisher information of single pictures.

    LeCun et al. 1990, "Optimal Brain Damage", equation 5; the first 64 pictures are used.
    """
    total = [np.zeros(group.width) for group in graph.groups]
    seen = 0
    with _wanting_gradients(module):
        parameters = dict(module.named_parameters())
        sites = [site for site in graph.sites if site.role == "produce"]
        for x, y in _singly(batches, HESSIAN_PICTURES):
            gradients = _gradients(module, parameters, x, y)
            tally = Tally(graph)
            for site in sites:
                product = 0.5 * (gradients[site.tensor] * parameters[site.tensor].detach()) ** 2
                tally.add(site.labels, per_index(product, site))
            for index, group in enumerate(graph.groups):
                total[index] += tally.total[group.atoms]
            seen += 1
    return [one / max(seen, 1) for one in total]


def activation(module: nn.Module, graph: Graph, batches: Batches) -> Scores:
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
            for x, _ in batches:
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


def _gates(module: nn.Module, graph: Graph) -> list[Site]:
    """The parameters whose zeroing switches a channel off: BatchNorms' where there are any, else filters and biases."""
    layers = dict(module.named_modules())
    parameters = dict(module.named_parameters())
    known = [site for site in graph.sites if site.tensor in parameters]
    norms = [
        site
        for site in known
        if isinstance(layers.get(site.tensor.rpartition(".")[0]), nn.modules.batchnorm._BatchNorm)
    ]
    gated = np.zeros(int(graph.root.max(initial=0)) + 1, dtype=bool)
    for site in norms:
        gated[graph.root[site.labels]] = True
    filters = [
        site
        for site in known
        if site.role != "consume" and site not in norms and not gated[graph.root[site.labels]].any()
    ]
    return norms + filters


def _gradients(module: nn.Module, parameters: Mapping[str, Tensor], x: np.ndarray, y: np.ndarray) -> dict[str, Tensor]:
    loss = functional.cross_entropy(module(beside(module, x)), beside(module, y))
    given = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {
        name: torch.zeros_like(tensor) if gradient is None else gradient
        for (name, tensor), gradient in zip(parameters.items(), given, strict=True)
    }


@contextmanager
def _wanting_gradients(module: nn.Module) -> Iterator[None]:
    """Frozen parameters have gradients too inside, and are frozen again after."""
    before = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    module.requires_grad_(True)
    try:
        yield
    finally:
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(before[name])


def _singly(batches: Batches, limit: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    seen = 0
    for x, y in batches:
        for index in range(len(x)):
            if seen == limit:
                return
            yield x[index : index + 1], y[index : index + 1]
            seen += 1
