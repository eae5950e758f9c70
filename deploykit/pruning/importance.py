"""What each channel is worth, by any of the criteria in ``criteria/``.

Every criterion gives one array per group, float64 [width], larger for channels that should stay. Scores of a channel that several
layers make (a residual stream) are taken over all of them. Those that look at images stream over them: ``batches`` gives
(x float32 [N, 3, H, W], labels int64 [N] in the order of the outputs).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from deploykit.base.progress import SILENT, Progress
from deploykit.config.registries import CRITERIA
from deploykit.pruning.channel_graph import Graph
from deploykit.pruning.records import FIXED, Site

Scores = list[np.ndarray]
Batches = Iterable[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Given:
    """What a criterion may use beside the weights.

    ``batches``: images and labels; empty for a criterion that needs none.
    """

    batches: Batches = ()
    seed: int = 0
    progress: Progress = SILENT


Criterion = Callable[[nn.Module, Graph, Given], Scores]


def channel_scores(module: nn.Module, graph: Graph, name: str, given: Given) -> Scores:
    """The scores of the channels by the criterion ``name``.

    ``module``: the network, in eval mode; it is not changed. ``name``: one of
    :data:`deploykit.config.registries.CRITERIA`. ``given``: images where the criterion looks at some, seed, progress.

    Raises:
        BadInput: there is no such criterion.
    """
    criterion: Criterion = CRITERIA.load(name)
    return criterion(module, graph, given)


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
    return summed.double().cpu().numpy()
