"""Layers that the user keeps or sizes: names → groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from deploykit.base.errors import BadInput, nearest
from deploykit.pruning.graph import Graph, Group

ASKED = "it was asked to stay"


def keep_layers(graph: Graph, names: Iterable[str]) -> Graph:
    """The graph with these layers' channels kept whole; a module's name stands for all layers in it.

    Raises:
        BadInput: no such layer (the nearest one is suggested).
    """
    for name in names:
        layers = layers_named(graph.producer_names(), name)
        graph = graph.without([group for group in graph.groups if _makes(graph, group, layers)], ASKED)
    return graph


def sized(graph: Graph, ratios: Mapping[str, float]) -> dict[int, float]:
    """Group index → fraction of its channels that stays.

    Raises:
        BadInput: no such layer, one whose width must stay, or two layers of one group with different fractions.
    """
    found: dict[int, float] = {}
    named: dict[int, str] = {}
    for name, ratio in ratios.items():
        layers = layers_named(graph.producer_names(), name)
        indices = [index for index, group in enumerate(graph.groups) if _makes(graph, group, layers)]
        if not indices:
            why = next((graph.kept[layer] for layer in layers if layer in graph.kept), "it has no channels of its own")
            raise BadInput(f"the width of {name} cannot change: {why}", fix="Leave its --ratio out.")
        for index in indices:
            if found.setdefault(index, ratio) != ratio:
                raise BadInput(
                    f"{named[index]} and {name} have the same channels",
                    got=f"the ratios {found[index]:g} and {ratio:g}",
                    expected="one ratio",
                )
            named.setdefault(index, name)
    return found


def layers_named(known: Sequence[str], name: str) -> set[str]:
    """The layers of ``known`` that a layer's or a module's name means.

    Raises:
        BadInput: none (the nearest one is suggested).
    """
    found = {layer for layer in known if layer == name or layer.startswith(f"{name}.")}
    if not found:
        close = nearest(name, [*known, *{part for layer in known for part in _modules(layer)}])
        raise BadInput(
            f"unknown layer {name!r}",
            expected="a convolution or linear layer, or a module that holds some",
            fix=f"Did you mean {close!r}?" if close else "`deploykit inspect MODEL --layers` lists them.",
        )
    return found


def _modules(layer: str) -> list[str]:
    parts = layer.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _makes(graph: Graph, group: Group, layers: set[str]) -> bool:
    """Whether one of the layers has the group's channels as its outputs (a depthwise one passes them through)."""
    if layers & set(group.producers):
        return True
    atoms = set(group.atoms.tolist())
    through = [layer for layer in graph.layers if layer.depthwise and layer.name in layers]
    return any(atoms & set(graph.root[layer.outputs].tolist()) for layer in through)
