"""What a pruned network is compared with: the whole one, in which nobody reads the removed channels."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from deploykit.pruning.channel_graph import Graph
from deploykit.pruning.surgery import remaining


def zero_consumers(module: nn.Module, graph: Graph, removed: np.ndarray) -> None:
    """Set every weight that reads a removed channel to zero, in place: the network then computes what the pruned one does.

    Gates and norms act on each channel alone, so that what a removed channel carries no longer reaches any output.
    """
    state = module.state_dict()
    with torch.no_grad():
        for site in graph.sites:
            if site.role != "consume":
                continue
            stays = torch.from_numpy(remaining(graph, removed, site.labels))
            weight = state[site.tensor]
            if stays.ndim == 1:
                weight.index_fill_(site.dim, torch.nonzero(~stays).ravel(), 0.0)
            else:
                rows = weight.view(len(stays), -1, *weight.shape[1:])
                for block, keep in zip(rows, stays, strict=True):
                    block[:, ~keep] = 0.0
