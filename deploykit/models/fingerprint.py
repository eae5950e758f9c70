"""Digests of a state dict's names and shapes, by which a network is recognised."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence

SKETCH = 24

Shapes = Mapping[str, Sequence[int]]


def relevant(names: Iterable[str]) -> list[str]:
    """The sorted names without BatchNorm's step counters, which files from before PyTorch 0.4.1 do not have."""
    return sorted(name for name in names if not name.endswith("num_batches_tracked"))


def names_digest(names: Iterable[str]) -> str:
    """12 hex digits over the tensors' names."""
    return hashlib.sha256("\n".join(relevant(names)).encode()).hexdigest()[:12]


def shapes_digest(shapes: Shapes, head: Collection[str]) -> str:
    """12 hex digits over names and shapes, the first dimension of the ``head`` tensors left free."""
    lines = []
    for name in relevant(shapes):
        shape = list(shapes[name])
        lines.append(f"{name} {['*', *shape[1:]] if name in head else shape}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def sketch(names: Iterable[str]) -> list[int]:
    """The smallest 24 of the names' CRC-32: two sketches overlap as the sets of names do.

    Bottom-k sampling of sets (Broder 1997, "On the resemblance and containment of documents").
    """
    return sorted(zlib.crc32(name.encode()) for name in relevant(names))[:SKETCH]


def resemblance(one: Collection[int], other: Collection[int]) -> float:
    """The estimated share of names that two sketched sets have in common, 0…1."""
    union = sorted(set(one) | set(other))[:SKETCH]
    both = set(one) & set(other)
    return sum(value in both for value in union) / max(1, len(union))
