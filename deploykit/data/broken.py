"""Leaving out pictures that cannot be read, when that was asked for."""

from __future__ import annotations

import numpy as np

from deploykit.base.errors import BadInput
from deploykit.base.progress import Progress
from deploykit.data.hashes import broken_files
from deploykit.data.stores import Files, Part

_NAMED = 5


def readable(part: Part, skip_broken: bool, progress: Progress) -> Part:
    """``part`` as it is, or with ``skip_broken`` without the files that cannot be decoded, which are named.

    Without ``skip_broken`` nothing is decoded ahead: a broken file is an error when it is read.

    Raises:
        BadInput: no picture is left.
    """
    if not skip_broken or not isinstance(part.store, Files):
        return part
    paths = part.store.paths
    broken = broken_files(paths, progress)
    if not broken:
        return part
    if len(broken) == len(paths):
        raise BadInput(f"none of the {len(paths)} pictures can be read", got=next(iter(broken.values())))
    shown = "; ".join(list(broken.values())[:_NAMED]) + (" …" if len(broken) > _NAMED else "")
    progress.warn(f"left out {len(broken)} of {len(paths)} pictures: {shown}")
    keep = np.array([index not in broken for index in range(len(paths))])
    return Part(Files([path for path, kept in zip(paths, keep, strict=True) if kept]), part.labels[keep])
