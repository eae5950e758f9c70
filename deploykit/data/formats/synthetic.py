"""``synthetic:SEED``: 18 classes = 6 shapes × 3 textures under rotation, occlusion and noise, made when asked for."""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from deploykit.base.environment import cores
from deploykit.base.errors import BadInput, unknown
from deploykit.base.progress import SILENT, Progress
from deploykit.data.formats.draws import keys, mixed
from deploykit.data.formats.shapes import SHAPES, TEXTURES, draw_shapes
from deploykit.data.source import DataSource
from deploykit.data.stores import Part

VERSION = 1  # raised when the pictures change: it is part of their hash
CLASSES = tuple(f"{texture}-{shape}" for shape in SHAPES for texture in TEXTURES)
_STREAMS = {"train": 1, "test": 2}
_DEFAULTS = {"train": 16_000, "test": 20_000, "size": 32}
_KEPT_BYTES = 256 << 20
_DRAWN_AT_ONCE = 1 << 16  # pixels: what is drawn of them stays in the processor's cache


def open_synthetic(name: str, progress: Progress = SILENT) -> DataSource:
    """Read ``synthetic:SEED[,train=…,test=…,size=…]``.

    Raises:
        BadInput: no seed, an unknown key, or a value out of range.
    """
    _, _, rest = name.partition(":")
    seed, *pairs = rest.split(",")
    form = "synthetic:SEED[,train=N,test=N,size=PIXELS]"
    if not re.fullmatch(r"\d{1,18}", seed):
        raise BadInput(f"--data {name}: no seed", got=repr(seed), expected=form)
    values = dict(_DEFAULTS)
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key not in values:
            raise unknown("key of synthetic", key, values)
        least = {"train": 0, "test": 1, "size": 8}[key]
        most = {"train": 10**8, "test": 10**8, "size": 1024}[key]
        if not re.fullmatch(r"\d{1,9}", value) or not least <= int(value) <= most:
            raise BadInput(f"--data {name}: {key}", got=repr(value), expected=f"a whole number, {least}…{most}")
        values[key] = int(value)
    side = values["size"]
    parts = {
        split: (lambda split=split: _part(int(seed), split, values[split], side)) for split in _STREAMS if values[split]
    }
    half = (0.5, 0.5, 0.5)
    return DataSource(name, CLASSES, parts, (side, side), mean=half, std=half, disjoint=True, progress=progress)


class Synthetic:
    """Pictures made from ``(seed, split, index)``; those made are kept while they fit in 256 MiB."""

    def __init__(self, seed: int, split: str, n: int, side: int) -> None:
        self.seed, self.split, self.n, self.side = seed, split, n, side
        self._keep = n * side * side * 3 <= _KEPT_BYTES
        self._kept: np.ndarray | None = None
        self._made = np.zeros(n if self._keep else 0, dtype=bool)

    def __len__(self) -> int:
        return self.n

    def labels(self) -> np.ndarray:
        """int64 ``[n]``."""
        return self._labels(np.arange(self.n))

    def image(self, index: int) -> np.ndarray:
        """One picture."""
        return self.stack(np.array([index]))[0]

    def stack(self, indices: np.ndarray) -> np.ndarray:
        """Pictures at once: uint8 ``[n, side, side, 3]``."""
        if not self._keep:
            return self._make(indices)
        if self._kept is None:
            self._kept = np.empty((self.n, self.side, self.side, 3), dtype=np.uint8)
        new = np.unique(indices[~self._made[indices]])
        for start in range(0, len(new), 256):
            some = new[start : start + 256]
            self._kept[some] = self._make(some)
            self._made[some] = True
        return self._kept[indices]

    def file_name(self, index: int) -> str | None:
        """None: it is no file."""
        return None

    def hashes(self, progress: Progress = SILENT) -> np.ndarray:
        """Of what decides a picture, since it is a pure function of that: nothing need be drawn."""
        head = f"synthetic/{VERSION}:{self.seed}:{self.split}:{self.side}:"
        return np.array([hashlib.sha256(f"{head}{index}".encode()).hexdigest() for index in range(self.n)], dtype="S64")

    def quick_hashes(self) -> bool:
        """Always."""
        return True

    def _labels(self, indices: np.ndarray) -> np.ndarray:
        key = keys(self.seed, _STREAMS[self.split], indices)
        return (mixed(key ^ np.uint64(0xC1A55)) % np.uint64(len(CLASSES))).astype(np.int64)

    def _make(self, indices: np.ndarray) -> np.ndarray:
        some = max(1, _DRAWN_AT_ONCE // self.side**2)
        parts = [indices[start : start + some] for start in range(0, len(indices), some)]
        at_once = min(len(parts), cores())
        if at_once < 2:
            return np.concatenate([self._draw(part) for part in parts] or [self._draw(indices)])
        with ThreadPoolExecutor(at_once) as threads:
            return np.concatenate(list(threads.map(self._draw, parts)))

    def _draw(self, indices: np.ndarray) -> np.ndarray:
        key = keys(self.seed, _STREAMS[self.split], indices)
        return draw_shapes(key, self._labels(indices), self.side)


def _part(seed: int, split: str, n: int, side: int) -> Part:
    store = Synthetic(seed, split, n, side)
    return Part(store, store.labels())
