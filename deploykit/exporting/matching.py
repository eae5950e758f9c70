"""Which tensor of one side is which of the other: graph and graph, or module and graph."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from deploykit.exporting.taps import Tap


def match_graphs(reference: Sequence[Tap], candidate: Sequence[Tap]) -> list[tuple[Tap, Tap]]:
    """Pairs of taps in the candidate's order: by tensor name, else by module, operator and occurrence."""
    by_name = {tap.tensor: tap for tap in reference}
    by_place = dict(zip(_places(reference), reference, strict=True))
    pairs = []
    for tap, place in zip(candidate, _places(candidate), strict=True):
        other = by_name.get(tap.tensor) or (by_place.get(place) if tap.module else None)
        if other is not None and other.op_type == tap.op_type:
            pairs.append((other, tap))
    return pairs


def match_module(module: Sequence[Tap], graph: Sequence[Tap]) -> list[tuple[Tap, Tap]]:
    """Pairs (leaf module's call, graph tensor) in the order of computation.

    A leaf called once answers what its last node makes; one called k times with k nodes pairs call by call. A
    BatchNorm without nodes was folded: what it answers is made by the node of the leaf called just before it.
    """
    nodes: dict[str, list[Tap]] = defaultdict(list)
    for tap in graph:
        nodes[tap.module].append(tap)
    calls: dict[str, list[Tap]] = defaultdict(list)
    for tap in module:
        calls[tap.module].append(tap)
    pairs: list[tuple[Tap, Tap]] = []
    previous: Tap | None = None
    for tap in module:
        mine, uses = nodes.get(tap.module, []), calls[tap.module]
        made: Tap | None = None
        if mine and len(uses) == 1:
            made = mine[-1]
        elif mine and len(uses) == len(mine):
            made = mine[uses.index(tap)]
        elif not mine and "BatchNorm" in tap.op_type and previous is not None:
            made = previous
            if pairs and pairs[-1][1] is previous:
                pairs.pop()
        if made is not None:
            pairs.append((tap, made))
        previous = made
    return pairs


def _places(taps: Sequence[Tap]) -> list[tuple[str, str, int]]:
    seen: dict[tuple[str, str], int] = defaultdict(int)
    places = []
    for tap in taps:
        key = (tap.module, tap.op_type)
        places.append((*key, seen[key]))
        seen[key] += 1
    return places
