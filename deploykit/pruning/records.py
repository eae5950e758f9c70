"""What one traced forward pass says about channels: units, where they are used, and what ties or fixes them.

A *unit* is one output channel of one layer: a row of a weight. Every activation carries the unit of each of its elements
(its *labels*, as small a tensor as broadcasting allows); unit 0 stands for whatever cannot be removed: the picture's
colours, constants, the logits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

FIXED = 0
BATCH = 2
"""Pictures in the trace: two, so that a view that mixes pictures is seen."""


@dataclass(frozen=True)
class Site:
    """One dimension of one parameter or buffer, and the unit that each of its indices belongs to.

    ``tensor``: name in the state dict. ``dim``: dimension of the tensor. ``labels``: int64 [size], or [groups, size]
    for the inputs of a grouped convolution. ``role``: ``produce``: its rows make the units; ``consume``: it reads them;
    ``follow``: it acts on each alone.
    """

    tensor: str
    dim: int
    labels: np.ndarray
    role: Literal["produce", "consume", "follow"]


@dataclass(frozen=True)
class LayerUse:
    """One call of a convolution or linear layer.

    Attributes:
        name: of the module.
        type: ``Conv2d``, ``Linear`` …
        tensor: its weight's name.
        positions: output positions of one picture (pixels, tokens).
        kernel: kernel elements.
        groups: of the convolution; 1 for linear layers.
        depthwise: whether outputs are its inputs' units.
        outputs: units of the output channels, int64 [out].
        inputs: units of the input channels, int64 [in].
    """

    name: str
    type: str
    tensor: str
    positions: int
    kernel: int
    groups: int
    depthwise: bool
    outputs: np.ndarray
    inputs: np.ndarray


@dataclass
class Records:
    """All that a trace recorded.

    Attributes:
        sites: every tensor dimension that is made of channels, as it was met first.
        read: (tensor, dimension) of those whose values read channels, in whichever use.
        layers: every call of a convolution or linear layer, in the order of running.
        pairs: int64 [n, 2] arrays of units that must go together.
        fixed: (units that must stay, why).
        blocks: (units of a grouped convolution's channels, number of groups): each group must lose as many.
        suspects: units whose positions a view, split or slice along the channels depends on.
        rows: (tensor, dimension) → its units, for tensors that make units.
        count: units so far, unit 0 included.
        output_shapes: of the traced forward pass.
        device: that it ran on.
    """

    sites: list[Site] = field(default_factory=list)
    read: set[tuple[str, int]] = field(default_factory=set)
    layers: list[LayerUse] = field(default_factory=list)
    pairs: list[np.ndarray] = field(default_factory=list)
    fixed: list[tuple[np.ndarray, str]] = field(default_factory=list)
    blocks: list[tuple[np.ndarray, int]] = field(default_factory=list)
    suspects: list[np.ndarray] = field(default_factory=list)
    rows: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)
    count: int = 1
    output_shapes: list[tuple[int, ...]] = field(default_factory=list)
    device: str = "meta"

    def tie(self, one: np.ndarray, other: np.ndarray) -> None:
        """Units of equal positions go together."""
        differ = one != other
        if differ.any():
            self.pairs.append(np.unique(np.stack([one[differ], other[differ]], axis=1), axis=0))

    def fix(self, units: np.ndarray, why: str) -> None:
        """These units stay."""
        units = np.unique(units)
        units = units[units != FIXED]
        if len(units):
            self.fixed.append((units, why))

    def suspect(self, units: np.ndarray) -> None:
        """These units are looked at one layer after the other before they may be removed."""
        units = np.unique(units)
        if len(units) > 1:
            self.suspects.append(units)


class Tracing:
    """The state of one traced pass, which the rules of operators read and write.

    ``module``: that runs, a copy in eval mode. ``rows``: (tensor, dimension) → units that are known before; None: none
    are. ``records``: what was found. ``alive``: every tensor met, kept so that no other gets its ``id``. ``opaque``:
    how many functions with a rule of their own are running; operators inside them are not looked at. ``inside``: names
    of the modules that run, the innermost last.
    """

    def __init__(self, module: nn.Module, rows: Mapping[tuple[str, int], np.ndarray] | None) -> None:
        self.module, self.records = module, Records()
        self.rows: dict[tuple[str, int], np.ndarray] = dict(rows or {})
        self.sites: dict[tuple[str, int], Site] = {}
        if rows:
            self.records.count = 1 + max(int(units.max(initial=0)) for units in rows.values())
        named = [*module.named_parameters(), *module.named_buffers()]
        self.names = {id(tensor): name for name, tensor in named}
        self.stored = module.state_dict().keys()
        self.labels: dict[int, Tensor] = {}
        self.alive: list[Any] = []
        self.opaque = 0
        self.inside: list[str] = []

    @property
    def place(self) -> str:
        """The name of the module that runs, for reasons."""
        return (self.inside[-1] if self.inside else "") or type(self.module).__name__

    def name(self, tensor: Any) -> str | None:
        """The name in the state dict or of a buffer; None for what is computed."""
        return self.names.get(id(tensor)) if isinstance(tensor, Tensor) else None

    def get(self, tensor: Tensor) -> Tensor:
        """The labels of a tensor, broadcastable to its shape."""
        found = self.labels.get(id(tensor))
        if found is not None:
            return found
        name = self.name(tensor)
        wide = [dim for dim, extent in enumerate(tensor.shape) if extent > 1]
        if name is not None and len(wide) == 1:  # a vector of channels: a scale, a shift
            labels = self.units(name, wide[0], tensor.shape[wide[0]])
            self.site(name, wide[0], labels, "follow")
            shape = [1] * tensor.ndim
            shape[wide[0]] = -1
            found = torch.from_numpy(labels).reshape(shape)
            self.put(tensor, found)
            return found
        return torch.zeros([1] * tensor.ndim, dtype=torch.int64)

    def put(self, tensor: Any, labels: Tensor) -> None:
        """Give a tensor its labels."""
        self.labels[id(tensor)] = labels
        self.alive.append(tensor)

    def units(self, name: str, dim: int, size: int) -> np.ndarray:
        """The units that the indices of a tensor's dimension stand for, made where they are met first."""
        known = self.rows.get((name, dim))
        if known is None:
            start = self.records.count
            known = np.arange(start, start + size, dtype=np.int64)
            self.records.count += size
            self.rows[name, dim] = known
        if len(known) != size:
            raise RuntimeError(f"{name} has {size} channels instead of {len(known)}")
        return known

    def site(self, name: str, dim: int, labels: np.ndarray, role: Any) -> None:
        """Note that the indices of a tensor's dimension belong to the units ``labels``; met again, both are tied."""
        if name not in self.stored:
            self.records.fix(labels.ravel(), f"{name} depends on its width and is not kept in files")
            return
        if role == "consume":
            self.records.read.add((name, dim))
        known = self.sites.get((name, dim))
        if known is not None:  # the layer runs twice, or its tensor is shared
            self.records.tie(known.labels.ravel(), labels.ravel())
            return
        self.sites[name, dim] = Site(name, dim, labels, role)
        self.records.sites.append(self.sites[name, dim])

    def channels(self, tensor: Tensor, dim: int, why: str) -> np.ndarray:
        """The unit of each index along ``dim``; units that vary along another dimension too are fixed."""
        labels = self.get(tensor)
        dim %= tensor.ndim
        if any(extent > 1 for at, extent in enumerate(labels.shape) if at != dim):
            self.records.fix(labels.numpy().ravel(), why)
            return np.zeros(tensor.shape[dim], dtype=np.int64)
        return labels.reshape(-1).expand(tensor.shape[dim]).numpy().copy()

    def fix(self, tensors: Any, why: str) -> None:
        """The units of these tensors stay."""
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, Tensor):
                self.records.fix(self.get(tensor).numpy().ravel(), why)


def expanded(labels: Tensor, shape: Sequence[int]) -> Tensor:
    """``labels`` as a view of the full shape."""
    return labels.expand(tuple(shape))


def compressed(labels: Tensor) -> Tensor:
    """``labels`` with every dimension along which they are constant cut to 1."""
    for dim, extent in enumerate(labels.shape):
        if extent > 1:
            first = labels.narrow(dim, 0, 1)
            if labels.stride(dim) == 0 or bool((labels == first).all()):
                labels = first
    return labels


def constant_along(labels: Tensor, dims: Iterable[int]) -> bool:
    """Whether compressed labels do not vary along ``dims``."""
    return all(labels.shape[dim] <= 1 for dim in dims)
