"""Where images lie: files, or one array. A store gives an image by its index, its hash, and the size they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from deploykit.base.errors import BadInput
from deploykit.base.hashing import array_sha256
from deploykit.base.progress import SILENT, Progress
from deploykit.data.hashes import all_hashed, broken_files, file_hashes
from deploykit.data.images import read_image


class Store(Protocol):
    """Pictures by index. All methods are safe to call from several threads at once."""

    def __len__(self) -> int:
        """Number of pictures."""

    def image(self, index: int) -> np.ndarray:
        """uint8 ``[H, W, C]``, RGB of files, RGBA where they have transparency."""

    def stack(self, indices: np.ndarray) -> np.ndarray | None:
        """uint8 ``[n, H, W, C]`` at once where all pictures have one size, else None."""

    def file_name(self, index: int) -> str | None:
        """The file's path, or None where the picture is no file of its own."""

    def hashes(self, progress: Progress = SILENT) -> np.ndarray:
        """``S64`` ``[n]``: hex sha256 of each picture; equal pictures have equal hashes."""

    def quick_hashes(self) -> bool:
        """Whether :meth:`hashes` need not read all pictures from disk."""


@dataclass(frozen=True)
class Part:
    """Pictures of one store with their labels, int64 ``[n]``."""

    store: Store
    labels: np.ndarray


class Files:
    """Picture files, decoded when asked for."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths
        self._hashes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, index: int) -> np.ndarray:
        """Read one file."""
        return read_image(self.paths[index])

    def stack(self, indices: np.ndarray) -> np.ndarray | None:
        """Files may differ in size."""
        return None

    def file_name(self, index: int) -> str | None:
        """The path."""
        return self.paths[index]

    def hashes(self, progress: Progress = SILENT) -> np.ndarray:
        """Of the files' bytes."""
        if self._hashes is None:
            self._hashes = file_hashes(self.paths, progress)
        return self._hashes

    def quick_hashes(self) -> bool:
        """Whether the cache knows them all."""
        return self._hashes is not None or all_hashed(self.paths)


class Array:
    """Pictures of one size in one array, which may be memory-mapped.

    ``pixels``: uint8 ``[n, H, W, C]``, or ``[n, C, H, W]`` with ``channels_first``. ``channels_first``: layout of
    ``pixels``.
    """

    def __init__(self, pixels: np.ndarray, *, channels_first: bool = False) -> None:
        self.pixels, self.channels_first = pixels, channels_first
        self._hashes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def image(self, index: int) -> np.ndarray:
        """One picture, as an array of its own."""
        return self.stack(np.array([index]))[0]

    def stack(self, indices: np.ndarray) -> np.ndarray:
        """Pictures at once."""
        some = np.asarray(self.pixels[indices])
        return np.ascontiguousarray(some.transpose(0, 2, 3, 1)) if self.channels_first else some

    def file_name(self, index: int) -> str | None:
        """None: no file of its own."""
        return None

    def hashes(self, progress: Progress = SILENT) -> np.ndarray:
        """Of the pictures' pixels."""
        if self._hashes is None:
            self._hashes = np.array([array_sha256(np.asarray(one)) for one in self.pixels], dtype="S64")
        return self._hashes

    def quick_hashes(self) -> bool:
        """Arrays are hashed at memory speed."""
        return True


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


MOST = 128
_LOOKED_AT = 32


def natural_size(paths: Sequence[str]) -> tuple[int, int] | None:
    """Height and width of up to 32 of the files, where they are small and the same for all that can be read."""
    from PIL import Image

    sizes = set()
    for path in paths[:: max(1, len(paths) // _LOOKED_AT)][:_LOOKED_AT]:
        try:
            with Image.open(path) as image:
                sizes.add((image.height, image.width))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue
    return sizes.pop() if len(sizes) == 1 and max(next(iter(sizes))) <= MOST else None
