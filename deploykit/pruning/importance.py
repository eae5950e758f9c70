"""What each channel is worth, from the weights alone.

Every criterion gives one array per group, float64 [width], larger for channels that should stay. Scores of a channel that several
layers make (a residual stream) are taken over all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from deploykit.base.progress import SILENT, Progress
from deploykit.pruning.graph import Graph
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
