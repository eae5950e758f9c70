"""Groups of channels that can only be removed together, from the records of a trace.

An *atom* is a set of tied units, the smallest thing that can be removed (channel 7 of every layer on a residual stream). A *group*
is all atoms made by the same layers: what one width stands for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from deploykit.pruning.records import FIXED, LayerUse, Records, Site


@dataclass(frozen=True)
class Group:
    """Channels of which some may go.

    ``atoms``: their ids, int64 [n], in the order of the first producing layer's rows. ``producers``: names of the
    layers that make them, in the order of running. ``blocks``: block of each atom, int64 [n]: grouped convolutions need
    as many atoms from each; None: no such need. ``rows``: channels of the first layer that an atom stands for (those of
    one group of a GroupNorm go together).
    """

    atoms: np.ndarray
    producers: tuple[str, ...]
    blocks: np.ndarray | None = None
    rows: int = 1

    @property
    def name(self) -> str:
        """The first layer that makes it."""
        return self.producers[0]

    @property
    def width(self) -> int:
        """Number of atoms."""
        return len(self.atoms)

    @property
    def block_count(self) -> int:
        """Number of blocks, 1 where there are none."""
        return 1 if self.blocks is None else int(self.blocks.max()) + 1


@dataclass(frozen=True)
class Graph:
    """The channels of one network.

    ``root``: unit → atom, int64 [units]; 0 for units that stay. ``groups``: that can be narrowed, in the order of
    running. ``kept``: layer name → why its output channels stay. ``shape``: of the traced image, (channels,
    height, width).
    """

    records: Records
    root: np.ndarray
    groups: tuple[Group, ...]
    kept: dict[str, str] = field(default_factory=dict)
    shape: tuple[int, int, int] = (0, 0, 0)

    @property
    def sites(self) -> list[Site]:
        """Every tensor dimension that is made of channels."""
        return self.records.sites

    @property
    def layers(self) -> list[LayerUse]:
        """Every call of a convolution or linear layer."""
        return self.records.layers

    def producer_names(self) -> list[str]:
        """Names of the layers that make channels, and of depthwise ones, in the order of running."""
        return list(dict.fromkeys(layer.name for layer in self.layers))

    def without(self, groups: Iterable[Group], why: str) -> Graph:
        """The graph with some groups kept whole."""
        gone = {int(group.atoms[0]): group for group in groups}
        kept = {**self.kept, **{producer: why for group in gone.values() for producer in group.producers}}
        return replace(self, groups=tuple(g for g in self.groups if int(g.atoms[0]) not in gone), kept=kept)

    def after(self, removed: np.ndarray) -> Graph:
        """The graph of the network without the atoms ``removed`` (bool over atom ids): same groups, fewer channels."""

        def left(labels: np.ndarray) -> np.ndarray:
            stays = ~removed[self.root[labels]]
            return labels[stays].reshape(*labels.shape[:-1], -1)

        records = replace(
            self.records,
            sites=[replace(site, labels=left(site.labels)) for site in self.records.sites],
            layers=[
                replace(
                    layer,
                    outputs=left(layer.outputs),
                    inputs=left(layer.inputs),
                    groups=len(left(layer.inputs)) if layer.depthwise else layer.groups,
                )
                for layer in self.records.layers
            ],
            rows={place: left(units) for place, units in self.records.rows.items()},
        )
        groups = []
        for group in self.groups:
            stays = ~removed[group.atoms]
            blocks = None if group.blocks is None else group.blocks[stays]
            groups.append(replace(group, atoms=group.atoms[stays], blocks=blocks))
        return replace(self, records=records, groups=tuple(groups))


def build_graph(records: Records, shape: tuple[int, int, int]) -> Graph:
    """Tie, fix and group the units of a trace."""
    root, reasons = _roots(records)
    made_by = _producers(records, root)
    kept = _kept(records, root, reasons)
    groups: list[Group] = []
    by_signature: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for atom, rows in made_by.items():
        by_signature.setdefault(tuple(rows.items()), []).append(atom)
    for signature, atoms in by_signature.items():
        names = tuple(dict.fromkeys(_layer_of(records.sites[at].tensor) for at, _ in signature))
        members = np.array(atoms, dtype=np.int64)
        blocks, why = _blocks(records, root, members)
        if why:
            kept |= dict.fromkeys(names, f"{names[0]} {why}")
        else:
            groups.append(Group(members, names, blocks, signature[0][1]))
    return Graph(records, root, tuple(groups), kept, shape)


def _roots(records: Records) -> tuple[np.ndarray, dict[int, str]]:
    """Unit → its atom (FIXED where it stays), and why those stay: representative → reason."""
    pairs = np.concatenate(records.pairs) if records.pairs else np.zeros((0, 2), dtype=np.int64)
    entries = (np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1]))
    _, component = connected_components(coo_matrix(entries, shape=(records.count, records.count)), directed=False)
    stays = np.zeros(component.max() + 1, dtype=bool)
    stays[component[FIXED]] = True
    reasons = {int(component[FIXED]): "it meets a constant or the picture itself"}
    for units, why in records.fixed:
        for one in np.unique(component[units]):
            reasons.setdefault(int(one), why)
        stays[component[units]] = True
    root = component.astype(np.int64) + 1
    root[stays[component]] = FIXED
    return root, {unit: reasons[int(one)] for unit, one in enumerate(component) if stays[one]}


def _producers(records: Records, root: np.ndarray) -> dict[int, Counter[int]]:
    """Atom → the sites that make it and how many rows of each, atoms in the order of the first site's rows."""
    found: dict[int, Counter[int]] = {}
    for index, site in enumerate(records.sites):
        if site.role == "produce":
            for atom in root[site.labels].ravel().tolist():
                if atom != FIXED:
                    found.setdefault(atom, Counter())[index] += 1
    return found


def _kept(records: Records, root: np.ndarray, reasons: Mapping[int, str]) -> dict[str, str]:
    kept: dict[str, str] = {}
    for site in records.sites:
        if site.role == "produce":
            staying = site.labels[root[site.labels] == FIXED]
            if len(staying):
                kept[_layer_of(site.tensor)] = reasons[int(staying[0])]
    return kept


def _blocks(records: Records, root: np.ndarray, atoms: np.ndarray) -> tuple[np.ndarray | None, str]:
    """The finest division of the atoms into blocks that grouped convolutions ask for, or why there is none."""
    found: np.ndarray | None = None
    for labels, groups in records.blocks:
        place = np.repeat(np.arange(groups), len(labels) // groups)
        roots = root[labels]
        inside = np.isin(roots, atoms)
        if not inside.any():
            continue
        of_atom = dict(zip(roots[inside].tolist(), place[inside].tolist(), strict=True))
        consistent = all(of_atom[r] == p for r, p in zip(roots[inside].tolist(), place[inside].tolist(), strict=True))
        block = np.array([of_atom.get(int(atom), -1) for atom in atoms])
        if not consistent or (block < 0).any() or len(set(np.bincount(block, minlength=groups).tolist())) != 1:
            return None, "feeds a grouped convolution unevenly"
        if found is None or groups > found.max() + 1:
            finer, coarser = block, found
        else:
            finer, coarser = found, block
        if coarser is not None and any(len(set(coarser[finer == one].tolist())) > 1 for one in range(finer.max() + 1)):
            return None, "feeds grouped convolutions whose groups cross"
        found = finer
    return found, ""


def _layer_of(tensor: str) -> str:
    return tensor.rpartition(".")[0] or tensor
