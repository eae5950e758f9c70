"""torchvision's and timm's classifiers by the names and shapes of their tensors: the index that ``make_index`` makes."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypedDict

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


INDEX = Path(__file__).with_name("index.json.gz")


@dataclass(frozen=True)
class Group:
    """Networks that share all names and shapes.

    ``names``: digest of the tensors' names. ``shapes``: digest of names and shapes, the head's number of classes left
    free. ``head``: tensors whose first dimension is the number of classes. ``classes``: members as
    ``SOURCE:NAME[:arguments]``; those in one list gave equal outputs.
    """

    names: str
    shapes: str
    head: tuple[str, ...]
    classes: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Index:
    """The whole index: groups, and per names digest a sketch for finding the nearest."""

    groups: tuple[Group, ...]
    sketches: dict[str, frozenset[int]]
    versions: dict[str, str]


class IndexFile(TypedDict):
    """The index as its file holds it: groups as names digest, shapes digest, head and classes."""

    versions: dict[str, str]
    names: dict[str, list[int]]
    groups: list[tuple[str, str, Sequence[str], Sequence[Sequence[str]]]]


@cache
def load_index(path: Path = INDEX) -> Index:
    """Read the index (about 20 ms)."""
    content: IndexFile = json.loads(gzip.decompress(path.read_bytes()))
    groups = tuple(
        Group(names, shapes, tuple(head), tuple(tuple(one) for one in classes))
        for names, shapes, head, classes in content["groups"]
    )
    sketches = {digest: frozenset(values) for digest, values in content["names"].items()}
    return Index(groups, sketches, content["versions"])


def matching(shapes: Shapes) -> list[Group]:
    """The groups whose names and shapes are exactly these, whatever the number of classes."""
    digest = names_digest(shapes)
    return [
        group
        for group in load_index().groups
        if group.names == digest and shapes_digest(shapes, group.head) == group.shapes
    ]


def nearest_groups(shapes: Shapes, at_least: float = 0.3) -> list[Group]:
    """The groups whose names resemble these most; empty where nothing comes near."""
    mine = sketch(shapes)
    index = load_index()
    digest, closeness = max(
        ((digest, resemblance(mine, values)) for digest, values in index.sketches.items()), key=lambda pair: pair[1]
    )
    return [group for group in index.groups if group.names == digest] if closeness >= at_least else []
