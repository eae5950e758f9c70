"""What each channel is worth, from the weights alone.

Every criterion gives one array per group, float64 [width], larger for channels that should stay. Scores of a channel that several
layers make (a residual stream) are taken over all of them.

What each channel is worth, from pictures: Taylor, Hessian, activation.

The criteria stream over the pictures; ``batches`` gives (x float32 [N, 3, H, W], labels int64 [N] in the order of the outputs).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from deploykit.base.progress import SILENT, Progress
from deploykit.models.device import beside
from deploykit.pruning.channel_graph import Graph
from deploykit.pruning.records import FIXED, Site

Scores = list[np.ndarray]


class Tally:
    """Sums of values over the atoms that they belong to."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.total = np.zeros(int(graph.root.max(initial=0)) + 1)
        self.count = np.zeros_like(self.total)

    def add(self, labels: np.ndarray, values: np.ndarray) -> None:
        """Add a value for each index of a dimension with these labels."""
        atoms = self.graph.root[labels.ravel()]
        inside = atoms != FIXED
        np.add.at(self.total, atoms[inside], values.ravel()[inside])
        np.add.at(self.count, atoms[inside], 1)

    def means(self) -> Scores:
        """The mean value of each group's atoms; 0 where none was added."""
        mean = self.total / np.maximum(self.count, 1)
        return [mean[group.atoms] for group in self.graph.groups]


def uses(module: nn.Module, graph: Graph) -> Iterator[tuple[Site, Tensor]]:
    """Every site that is a dimension of a parameter, with the parameter as float32."""
    parameters = dict(module.named_parameters())
    for site in graph.sites:
        if site.tensor in parameters:
            yield site, parameters[site.tensor].detach().float()


def per_index(tensor: Tensor, site: Site) -> np.ndarray:
    """The tensor summed over all but the site's dimension, float64 of the shape of its labels."""
    if site.labels.ndim == 2:  # [groups, inputs of a group]
        rows = tensor.reshape(site.labels.shape[0], -1, *tensor.shape[1:])
        summed = rows.sum(dim=[dim for dim in range(rows.ndim) if dim not in (0, 2)])
    else:
        others = [dim for dim in range(tensor.ndim) if dim != site.dim]
        summed = tensor.sum(dim=others) if others else tensor
    found: np.ndarray = summed.double().cpu().numpy()
    return found


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


def scales(module: nn.Module, graph: Graph, progress: Progress = SILENT) -> Scores:
    """The mean |gamma| of the BatchNorms behind a channel (Liu et al. 2017, "Network Slimming", section 3).

    Groups without BatchNorm are scored by L2, which is said.
    """
    layers = dict(module.named_modules())
    tally = Tally(graph)
    for site, weight in uses(module, graph):
        layer, _, leaf = site.tensor.rpartition(".")
        if leaf == "weight" and isinstance(layers.get(layer), nn.modules.batchnorm._BatchNorm):
            tally.add(site.labels, weight.abs().double().numpy())
    found, fallback = tally.means(), None
    for index, group in enumerate(graph.groups):
        if not tally.count[group.atoms].all():
            fallback = fallback or magnitude(module, graph, 2)
            found[index] = fallback[index]
            progress.say(f"{group.name} has no BatchNorm: its channels are scored by L2")
    return found


def geometric_median(module: nn.Module, graph: Graph) -> Scores:
    """The sum of a filter's distances to the others of its layer: near the median means replaceable.

    He et al. 2019, "Filter Pruning via Geometric Median", equation 6.
    """
    tally = Tally(graph)
    for site, weight in uses(module, graph):
        if site.role == "produce":
            rows = weight.flatten(1)
            tally.add(site.labels, torch.cdist(rows, rows).sum(dim=1).double().numpy())
    return tally.means()


def lamp(module: nn.Module, graph: Graph) -> Scores:
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


def by_chance(module: nn.Module, graph: Graph, seed: int) -> Scores:
    """Uniform random numbers: the baseline every criterion has to beat."""
    random = np.random.default_rng(seed)
    return [random.random(group.width) for group in graph.groups]


def weight_scores(module: nn.Module, graph: Graph, name: str, seed: int = 0, progress: Progress = SILENT) -> Scores:
    """The scores of a criterion that needs no pictures: l1, l2, bn-scale, fpgm, lamp or random."""
    criteria: dict[str, Callable[[], Scores]] = {
        "l1": lambda: magnitude(module, graph, 1),
        "l2": lambda: magnitude(module, graph, 2),
        "bn-scale": lambda: scales(module, graph, progress),
        "fpgm": lambda: geometric_median(module, graph),
        "lamp": lambda: lamp(module, graph),
        "random": lambda: by_chance(module, graph, seed),
    }
    return criteria[name]()


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
