"""What one traced forward pass says about channels: units, where they are used, and what ties or fixes them.

A *unit* is one output channel of one layer: a row of a weight. Every activation carries the unit of each of its elements
(its *labels*); unit 0 stands for whatever cannot be removed: the picture's colours, constants, the logits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

FIXED = 0


@dataclass(frozen=True)
class Site:
    """One dimension of one parameter or buffer, and the unit that each of its indices belongs to.

    Attributes:
        tensor: name in the state dict.
        dim: dimension of the tensor.
        labels: int64 [size], or [groups, size] for the inputs of a grouped convolution.
        role: ``produce``: its rows make the units; ``consume``: it reads them; ``follow``: it acts on each alone.
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
        sites: every use of a tensor dimension.
        layers: every call of a convolution or linear layer, in the order of running.
        pairs: int64 [n, 2] arrays of units that must go together.
        fixed: (units that must stay, why).
        blocks: (units of a grouped convolution's channels, number of groups): each group must lose as many.
        suspects: units whose positions a view, split or slice along the channels depends on.
        rows: (tensor, dimension) → its units, for tensors that make units.
        count: units so far, unit 0 included.
        output_shape: of the traced forward pass.
        device: that it ran on.
    """

    sites: list[Site] = field(default_factory=list)
    layers: list[LayerUse] = field(default_factory=list)
    pairs: list[np.ndarray] = field(default_factory=list)
    fixed: list[tuple[np.ndarray, str]] = field(default_factory=list)
    blocks: list[tuple[np.ndarray, int]] = field(default_factory=list)
    suspects: list[np.ndarray] = field(default_factory=list)
    rows: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)
    count: int = 1
    output_shape: tuple[int, ...] = ()
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
