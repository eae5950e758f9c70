"""``bn-scale``: the scale of the BatchNorm behind a channel."""

from __future__ import annotations

from torch import nn

from deploykit.models.batch_norm import BatchNorm
from deploykit.pruning.channel_graph import Graph
from deploykit.pruning.criteria.magnitude import magnitude
from deploykit.pruning.importance import Given, Scores, Tally, uses


def bn_scale(module: nn.Module, graph: Graph, given: Given) -> Scores:
    """The mean |gamma| of the BatchNorms behind a channel (Liu et al. 2017, "Network Slimming", section 3).

    Groups without BatchNorm are scored by L2, which is said.
    """
    layers = dict(module.named_modules())
    tally = Tally(graph)
    for site, weight in uses(module, graph):
        layer, _, leaf = site.tensor.rpartition(".")
        if leaf == "weight" and isinstance(layers.get(layer), BatchNorm):
            tally.add(site.labels, weight.abs().double().numpy())
    found, fallback = tally.means(), None
    for index, group in enumerate(graph.groups):
        if not tally.count[group.atoms].all():
            fallback = fallback or magnitude(module, graph, 2)
            found[index] = fallback[index]
            given.progress.say(f"{group.name} has no BatchNorm: its channels are scored by L2")
    return found
