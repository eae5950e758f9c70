"""MACs and parameters of a network as functions of its groups' widths."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from deploykit.pruning.channel_graph import Graph, Group


@dataclass(frozen=True)
class Counter:
    """How many channels of a tensor's dimension are left: ``base + share @ widths``."""

    base: float
    share: np.ndarray

    def __call__(self, widths: np.ndarray) -> float:
        """Channels that are left; ``widths`` is [groups]."""
        return float(self.base + self.share @ widths)


@dataclass(frozen=True)
class LayerCost:
    """One call of a layer.

    ``type``: ``Conv2d``, ``Linear`` …. ``outputs``: counts its output channels. ``inputs``: counts its input channels.
    ``per_pair``: MACs for one output and one input channel (of one output alone where depthwise). ``depthwise``:
    whether it reads one channel for each output.
    """

    name: str
    type: str
    outputs: Counter
    inputs: Counter
    per_pair: float
    depthwise: bool

    @property
    def touched(self) -> np.ndarray:
        """The groups that it depends on, bool [groups]."""
        return (self.inputs.share != 0) | (self.outputs.share != 0)

    def macs(self, widths: np.ndarray) -> float:
        """Multiply-accumulates for one picture."""
        outputs = self.outputs(widths)
        return self.per_pair * outputs * (1.0 if self.depthwise else self.inputs(widths))


class Costs:
    """The costs of a graph's network.

    ``total_macs``: as counted, attention included. ``params``: name → shape of every parameter.
    """

    def __init__(self, graph: Graph, total_macs: int, params: dict[str, tuple[int, ...]]) -> None:
        self.graph = graph
        self.widths = np.array([group.width for group in graph.groups], dtype=np.int64)
        self.layers = [_layer_cost(graph, layer) for layer in graph.layers]
        self._rest_macs = total_macs - sum(layer.macs(self.widths) for layer in self.layers)
        self._tensors: list[tuple[float, list[Counter]]] = []
        changing = set()
        by_tensor: dict[str, list[Counter]] = {}
        for site in graph.sites:
            if site.tensor in params:
                labels = site.labels if site.labels.ndim == 1 else site.labels[0]  # blocks lose as many
                by_tensor.setdefault(site.tensor, []).append(counter(graph, graph.groups, labels))
                changing.add((site.tensor, site.dim))
        for name, counters in by_tensor.items():
            rest = float(np.prod([n for dim, n in enumerate(params[name]) if (name, dim) not in changing]))
            self._tensors.append((rest, counters))
        self._rest_params = sum(int(np.prod(shape)) for name, shape in params.items() if name not in by_tensor)

    def macs(self, widths: np.ndarray) -> float:
        """Multiply-accumulates of the whole network for one picture at these group widths, int [groups]."""
        return self._rest_macs + sum(layer.macs(widths) for layer in self.layers)

    def macs_parts(self) -> list[tuple[Callable[[np.ndarray], float], np.ndarray]]:
        """The cost of each layer as a function of the widths, and the groups that it depends on, bool [groups]."""
        return [(one.macs, one.touched) for one in self.layers]

    def params_parts(self) -> list[tuple[Callable[[np.ndarray], float], np.ndarray]]:
        """As :meth:`macs_parts` for the parameters of each tensor that can change."""

        def size_of(rest: float, counters: list[Counter]) -> Callable[[np.ndarray], float]:
            return lambda widths: rest * math.prod(one(widths) for one in counters)

        def touched(counters: list[Counter]) -> np.ndarray:
            return np.any([one.share != 0 for one in counters], axis=0)

        return [(size_of(rest, counters), touched(counters)) for rest, counters in self._tensors]

    def params(self, widths: np.ndarray) -> float:
        """Parameters of the whole network at these group widths."""
        found = float(self._rest_params)
        for rest, counters in self._tensors:
            for one in counters:
                rest *= one(widths)
            found += rest
        return found


def counter(graph: Graph, groups: Sequence[Group], labels: np.ndarray) -> Counter:
    """Count the channels of a dimension by group; an atom may stand for several (the pixels of a flattened map)."""
    roots = graph.root[labels]
    owner = np.full(int(graph.root.max(initial=0)) + 1, -1)
    for index, group in enumerate(groups):
        owner[group.atoms] = index
    owners = owner[roots]
    share = np.bincount(owners[owners >= 0], minlength=len(groups)).astype(float)
    return Counter(float((owners < 0).sum()), share / np.maximum([group.width for group in groups], 1))


def _layer_cost(graph: Graph, layer) -> LayerCost:  # type: ignore[no-untyped-def]
    per_pair = layer.positions * layer.kernel / (1 if layer.depthwise else layer.groups)
    outputs = counter(graph, graph.groups, layer.outputs)
    return LayerCost(
        layer.name, layer.type, outputs, counter(graph, graph.groups, layer.inputs), per_pair, layer.depthwise
    )
