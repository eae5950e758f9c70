"""The shipped index of names and shapes of torchvision's and timm's classifiers (made by ``build_index``)."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from deploykit.models.fingerprint import Shapes, names_digest, resemblance, shapes_digest, sketch

INDEX = Path(__file__).with_name("index.json.gz")


@dataclass(frozen=True)
class Group:
    """Networks that share all names and shapes.

    Attributes:
        names: digest of the tensors' names.
        shapes: digest of names and shapes, the head's number of classes left free.
        head: tensors whose first dimension is the number of classes.
        classes: members as ``SOURCE:NAME[:arguments]``; those in one list gave equal outputs.
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


@cache
def load_index(path: Path = INDEX) -> Index:
    """Read the index (about 20 ms)."""
    content = json.loads(gzip.decompress(path.read_bytes()))
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
