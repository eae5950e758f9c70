"""Try a graph before anything is changed: prune a copy on the meta device and see that every channel is where it should be.

Code may depend on a width without saying so: a view to 512 features, a split at channel 64. A pruned copy is traced again with the
units of the original; where a layer then reads other units than expected, or nothing runs at all, the group stays whole. What is left
is run, since a width may be used as a number too (:mod:`deploykit.pruning.exactness`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
from torch import nn

from deploykit.base.errors import BadInput
from deploykit.base.progress import SILENT, Progress
from deploykit.models.module_outputs import input_channels
from deploykit.pruning import exactness
from deploykit.pruning.channel_graph import Graph, Group, build_graph
from deploykit.pruning.exactness import inexact_groups
from deploykit.pruning.records import FIXED, Records
from deploykit.pruning.surgery import no_atoms, remaining, remove
from deploykit.pruning.trace import copy_on, trace, trace_on

WHY = "the network's code depends on its width (a split, view or slice)"


def prunable_graph(
    module: nn.Module, size: tuple[int, int], progress: Progress = SILENT, channels: int | None = None
) -> Graph:
    """The graph of ``module`` for images of ``size`` (height, width), holding only groups that can really be narrowed.

    ``module`` is not changed. ``channels``: of the images; None: those of its first convolution.

    Raises:
        BadInput: it does not run, returns no tensor, or holds no group that can be narrowed.
    """
    shape = (channels or input_channels(module), *size)
    graph = build_graph(trace(module, shape), shape)
    traced = copy_on(graph.records.device, module)
    if graph.groups and (wrong := _trouble(traced, graph, graph.groups)) is not None:
        graph = _without_rigid(traced, graph, wrong, progress)
    found = inexact_groups(module, graph, some_atoms(graph, graph.groups, seed=0), progress)
    if found:
        progress.say(told_kept([name for group in found for name in group.producers], exactness.WHY))
        graph = graph.without(found, exactness.WHY)
    if not graph.groups:
        reasons = list(dict.fromkeys(f"{name}: {why}" for name, why in graph.kept.items()))
        raise BadInput("the network has no channels that can be removed", got="; ".join(reasons[:3]))
    return graph


def _without_rigid(module: nn.Module, graph: Graph, wrong: str, progress: Progress) -> Graph:
    """Leave out the groups that cannot be narrowed alone: first among those that views and splits depend on."""
    suspected = {int(graph.root[unit]) for units in graph.records.suspects for unit in units}
    candidates = [group for group in graph.groups if suspected & set(group.atoms.tolist())]
    for tested in (candidates, list(graph.groups)):
        rigid = [group for group in tested if _trouble(module, graph, [group]) is not None]
        if rigid:
            graph = graph.without(rigid, WHY)
        if not graph.groups:
            break
        found = _trouble(module, graph, graph.groups)
        if found is None:
            break
        wrong = found
    else:
        raise BadInput(f"the network cannot be pruned: {wrong}", fix="Name the layers that must stay with --keep.")
    progress.say(told_kept([name for name, why in graph.kept.items() if why == WHY], WHY))
    return graph


def told_kept(layers: Sequence[str], why: str) -> str:
    """For people: which layers keep their width."""
    return f"{len(layers)} layers keep their width, because {why}: {', '.join(layers[:4])}{' …' * (len(layers) > 4)}"


def _trouble(module: nn.Module, graph: Graph, groups: Sequence[Group]) -> str | None:
    """Narrow ``groups`` of a copy at random places; what went wrong, or None."""
    removed = some_atoms(graph, groups, seed=0)
    copied = copy.deepcopy(module)
    remove(copied, graph, removed)
    cut = {(site.tensor, site.dim) for site in graph.sites}
    rows = {
        place: units[~removed[graph.root[units]]] if place in cut else units
        for place, units in graph.records.rows.items()
    }
    try:
        again = trace_on(graph.records.device, copied, graph.shape, rows)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError, BadInput) as error:
        return f"it does not run with fewer channels in {groups[0].name}: {str(error).splitlines()[0]}"
    return _difference(graph, again, removed)


def some_atoms(graph: Graph, groups: Sequence[Group], seed: int) -> np.ndarray:
    """A random half of the channels of ``groups``, as many from each block: bool over atom ids."""
    random = np.random.default_rng(seed)
    removed = no_atoms(graph)
    for group in groups:
        count = group.block_count
        blocks = np.zeros(group.width, dtype=np.int64) if group.blocks is None else group.blocks
        for block in range(count):
            members = group.atoms[blocks == block]
            removed[random.permutation(members)[: len(members) // 2]] = True
    return removed


def _difference(graph: Graph, again: Records, removed: np.ndarray) -> str | None:
    """Where the pruned copy's channels are not those of the original; None: nowhere."""
    if again.count != graph.records.count or again.output_shapes != graph.records.output_shapes:
        return "its output changes its shape"
    for pairs in again.pairs:
        if (graph.root[pairs[:, 0]] != graph.root[pairs[:, 1]]).any():
            return "channels meet that did not before"
    for units, why in again.fixed:
        if (graph.root[units] != FIXED).any():
            return why
    expected = {(site.tensor, site.dim): site for site in graph.sites}
    for site in again.sites:
        before = expected.get((site.tensor, site.dim))
        if before is None:
            return f"{site.tensor} reads other channels"
        stays = remaining(graph, removed, before.labels)
        if not np.array_equal(graph.root[before.labels[stays]], graph.root[site.labels.ravel()]):
            return f"{site.tensor} reads other channels"
    return None
