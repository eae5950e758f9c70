"""Which numbers of an output are judged together: groups of like scale, so that large ones do not hide small ones.

One SNR over boxes in pixels and scores of 0…1 says that a detector is near although all its scores are zero. So an output
is looked at by channels (its classes, box coordinates, maps):

* a classifier's logits are one group;
* channels whose numbers all lie in [0, 1] and others (scores beside boxes) are never in one group;
* beyond that channels are split where their RMS differs by more than ``LIKE`` times.

A group below ``FAINT`` of the RMS of its kind is reported, not judged: nothing is read from it, and what is computed
beside the others loses it in rounding. What is not judged must still not become large.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np

LIKE = 8.0
FAINT = 1e-3
JOIN = {"low": np.minimum, "high": np.maximum, "largest": np.maximum}
SURELY = 0.01
"""A score is a number of [0, 1] that somewhere reaches this."""


class GroupParity(TypedDict):
    """One group of an output: which ``channels`` (empty: all), the RMS of the reference, how far the candidate is from it.

    ``snr_db``: None where identical or not defined. ``centred_db``: power of what depends on the image over that of the
    whole difference; None where that is nothing, or one image. ``judged``: whether it counts.
    """

    output: str
    channels: str
    rms: float
    max_abs: float
    snr_db: float | None
    centred_db: float | None
    identical: bool
    judged: bool


@dataclass(frozen=True)
class Group:
    """Channels that are judged together: their indices, their kind's (all channels of [0, 1], or all others), ``judged``."""

    channels: tuple[int, ...]
    kind: tuple[int, ...]
    judged: bool


@dataclass
class ChannelSums:
    """Running sums of one output over reference r and difference d = candidate − r, channel by channel.

    Memory does not grow with the images. ``rows``: images; ``numbers``: of one channel. Each array: float64 ``[C]``.
    """

    rows: int = 0
    numbers: int = 0
    sums: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, reference: np.ndarray, candidate: np.ndarray) -> None:
        """Add arrays ``[N, …]`` of equal shape; numbers that are not finite on either side count as zero."""
        if not reference.size:
            return
        r, c = by_channel(reference), by_channel(candidate)
        finite = np.isfinite(r) & np.isfinite(c)
        r, c = np.where(finite, r, 0.0), np.where(finite, c, 0.0)
        d = c - r
        self.rows += len(reference)
        self.numbers += len(r)
        found = {
            "signal": np.einsum("nc,nc->c", r, r),
            "sum": r.sum(axis=0),
            "noise": np.einsum("nc,nc->c", d, d),
            "low": r.min(axis=0),
            "high": r.max(axis=0),
            "largest": np.abs(d).max(axis=0),
        }
        self._join(found)

    def _join(self, found: Mapping[str, np.ndarray]) -> None:
        self.sums = {
            name: JOIN.get(name, np.add)(self.sums[name], part) if self.sums else part for name, part in found.items()
        }

    def power(self, name: str, channels: Sequence[int]) -> float:
        """A sum over some channels."""
        return float(self.sums[name][list(channels)].sum())

    def rms(self, channels: Sequence[int]) -> float:
        """Of the reference in some channels."""
        return math.sqrt(self.power("signal", channels) / max(self.numbers * len(channels), 1))

    def are_scores(self) -> bool:
        """Whether all numbers of the reference lie in [0, 1]."""
        return bool(self.sums) and float(self.sums["low"].min()) >= 0 and float(self.sums["high"].max()) <= 1

    def parity(self, output: str, group: Group) -> GroupParity:
        """How near the candidate is in ``group``, once something was added."""
        signal, noise = self.power("signal", group.channels), self.power("noise", group.channels)
        mean = float(np.square(self.sums["sum"][list(group.channels)]).sum()) / self.numbers
        varying = max(signal - mean, 0.0)
        faint = varying < FAINT**2 * self.power("signal", group.kind) * len(group.channels) / len(group.kind)
        return {
            "output": output,
            "channels": "" if len(group.channels) == len(self.sums["sum"]) else spans(group.channels),
            "rms": self.rms(group.channels),
            "max_abs": float(self.sums["largest"][list(group.channels)].max()),
            "snr_db": decibels(signal, noise),
            "centred_db": None if faint or self.rows < 2 else decibels(varying, noise),
            "identical": noise == 0,
            "judged": group.judged,
        }


def joined(parts: Iterable[ChannelSums]) -> ChannelSums:
    """The sums over several batch sizes together."""
    whole = ChannelSums()
    for part in parts:
        if part.sums:
            whole.rows, whole.numbers = whole.rows + part.rows, whole.numbers + part.numbers
            whole._join(part.sums)
    return whole


def groups_of(seen: ChannelSums, *, classes: bool = False) -> tuple[Group, ...]:
    """The groups of an output.

    Args:
        seen: of the reference on all images; empty: no groups.
        classes: the output is a classifier's logits.
    """
    if not seen.sums:
        return ()
    every = tuple(range(len(seen.sums["sum"])))
    if classes:
        return (Group(every, every, True),)
    scores = (seen.sums["low"] >= 0) & (seen.sums["high"] <= 1) & (seen.sums["high"] >= SURELY)
    whole, found = seen.rms(every), list[Group]()
    for mask in (~scores, scores):
        kind = tuple(np.flatnonzero(mask).tolist())
        rms = [seen.rms([channel]) for channel in kind]
        order, start = sorted(range(len(kind)), key=lambda i: -rms[i]), 0
        while start < len(order):
            alike = [i for i in order[start:] if rms[i] * LIKE >= rms[order[start]]]
            members = tuple(sorted(kind[i] for i in alike))
            heard = seen.rms(members) >= FAINT * seen.rms(kind) and seen.rms(kind) >= FAINT**2 * whole
            found.append(Group(members, kind, heard))
            start += len(alike)
    return tuple(found)


def powers(reference: np.ndarray, candidate: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each judged group of an output that is no classifier's: the power of r and of c − r in each image, float64 ``[N]``.

    ``reference``, ``candidate``: ``[N, …]``, at least one image.
    """
    images = [ChannelSums() for _ in reference]
    for sums, r, c in zip(images, reference, candidate, strict=True):
        sums.add(r[None], c[None])
    signal, noise = (np.stack([one.sums[name] for one in images]) for name in ("signal", "noise"))
    groups = [list(one.channels) for one in groups_of(joined(images)) if one.judged]
    return [(signal[:, group].sum(axis=1), noise[:, group].sum(axis=1)) for group in groups]


def decibels(signal: float, noise: float) -> float | None:
    """The ratio of two powers; None where either is zero."""
    return 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else None


def spans(channels: Sequence[int]) -> str:
    """``0-3, 7`` of ascending numbers."""
    ends: list[list[int]] = []
    for one in channels:
        if ends and one == ends[-1][1] + 1:
            ends[-1][1] = one
        else:
            ends.append([one, one])
    shown = [str(low) if low == high else f"{low}-{high}" for low, high in ends]
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more spans" if len(shown) > 4 else "")


def by_channel(output: np.ndarray) -> np.ndarray:
    """``[N, …]`` → float64 ``[numbers, C]``.

    The channels of ``[N, C]`` and ``[N, C, h, w]`` are the second dimension, of ``[N, h, h, C]`` and five dimensions
    the last; of ``[N, A, B]`` the shorter one (``[N, 84, 8400]``, ``[N, 300, 6]``).
    """
    axis = channel_axis(output.shape)
    moved = output.reshape(-1, 1) if axis is None else np.moveaxis(output, axis, -1).reshape(-1, output.shape[axis])
    return np.asarray(moved, np.float64)


def channel_axis(shape: Sequence[int]) -> int | None:
    """Which dimension holds the channels; None: there is none."""
    if len(shape) < 2:
        return None
    if len(shape) == 3:
        return 1 if shape[1] < shape[2] else 2
    if len(shape) == 4:
        return 3 if shape[1] == shape[2] != shape[3] else 1
    return len(shape) - 1 if len(shape) > 4 else 1
