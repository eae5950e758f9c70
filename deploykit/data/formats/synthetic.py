"""``synthetic:SEED``: 18 classes = 6 shapes × 3 textures under rotation, occlusion and noise, made when asked for.

Random numbers come by counter: each is a pure function of its place, so that any image can be made on its own.
"""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from deploykit.base.environment import cores
from deploykit.base.errors import BadInput, unknown
from deploykit.base.progress import SILENT, Progress
from deploykit.data.forms import Asked
from deploykit.data.source import DataSource
from deploykit.data.stores import Part

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mixed(values: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea, Flood, 2014) over uint64 values of any shape."""
    x = values + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def keys(seed: int, stream: int, indices: np.ndarray) -> np.ndarray:
    """One uint64 key for each index of a stream: ``[n]``."""
    base = mixed(mixed(np.array([seed], dtype=np.uint64)) + np.uint64(stream))
    return mixed(base + indices.astype(np.uint64))


def uniforms(key: np.ndarray, count: int) -> np.ndarray:
    """float32 ``[n, count]`` in [0, 1), by the keys ``[n]``."""
    counter = np.arange(count, dtype=np.uint64) * _GOLDEN
    return (mixed(key[:, None] + counter) >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


def bells(key: np.ndarray, count: int) -> np.ndarray:
    """float32 ``[n, count]`` of mean 0 and deviation 1: the sum of four uniforms, which is close to a normal value."""
    counter = (np.arange(count, dtype=np.uint64) + np.uint64(1 << 32)) * _GOLDEN
    quarters = mixed(key[:, None] + counter).view(np.uint16).reshape(len(key), count, 4)
    total = quarters.sum(axis=2, dtype=np.uint32).astype(np.float32)
    return (total / np.float32(65535) - 2) * np.float32(3**0.5)


SHAPES = ("disc", "square", "triangle", "cross", "ring", "star")
TEXTURES = ("plain", "striped", "checked")

NOISE = (
    0.07  # measured with these, 12 epochs: ResNet-14 (32-64-128) 93.2 %, ResNet-8 (16-32-64) 87.8 %, MobileNetV2 96.2 %
)
CONTRAST = (0.25, 0.5)
RADIUS = (0.55, 0.8)
BAR = (0.25, 0.45)
TEXTURE_CONTRAST = (0.2, 0.4)


def draw_shapes(key: np.ndarray, labels: np.ndarray, side: int) -> np.ndarray:
    """One textured shape a picture, rotated by any angle, partly covered by a bar, on a shaded ground, with noise.

    ``key``: uint64 ``[n]``, decides everything but the class. ``labels``: int64 ``[n]``, shape × 3 + texture. ``side``:
    pixels. Returns uint8 ``[n, side, side, 3]``.
    """
    r = uniforms(key, 24)
    axis = (np.arange(side, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / side) - 1
    x, y = axis[None, None, :], axis[None, :, None]
    u, v = _turned(x, y, r)
    cover = np.empty((len(key), side, side), dtype=np.float32)
    for shape in range(len(SHAPES)):
        of_shape = labels // len(TEXTURES) == shape
        cover[of_shape] = _edge(_distance(shape, u[of_shape], v[of_shape]), side)
    relief = _texture(labels % len(TEXTURES), u, v, r) * _between(r[:, 6], *TEXTURE_CONTRAST)

    ground = 0.25 + 0.5 * r[:, 7:10]
    sign = np.where(r[:, 10:11] < 0.5, -1, 1)
    tint = sign * _between(r[:, 11], *CONTRAST)[:, :, 0] * (0.6 + 0.8 * r[:, 12:15])
    shade = (r[:, 15, None, None] - 0.5) * 0.4 * x + (r[:, 16, None, None] - 0.5) * 0.4 * y
    picture = (ground[:, None, None, :] + shade[..., None]).astype(np.float32)
    picture += cover[..., None] * (tint[:, None, None, :] + relief[..., None])

    bar = _bar(x, y, r, side)[..., None]
    picture += bar * (r[:, None, None, 21:24] - picture)
    picture += np.float32(NOISE) * bells(key, side * side * 3).reshape(picture.shape)
    return (np.clip(picture, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def _between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return (np.float32(low) + values * np.float32(high - low))[:, None, None]


def _turned(x: np.ndarray, y: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the shape: its centre is (0, 0), its reach about 1, turned by any angle."""
    radius = _between(r[:, 0], *RADIUS)
    angle = (r[:, 1] * np.float32(2 * np.pi))[:, None, None]
    dx = x - (1 - radius) * (2 * r[:, 2, None, None] - 1)
    dy = y - (1 - radius) * (2 * r[:, 3, None, None] - 1)
    cos, sin = np.cos(angle) / radius, np.sin(angle) / radius
    return dx * cos + dy * sin, dy * cos - dx * sin


def _distance(shape: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """How far inside the outline a place is, in the shape's own unit: positive inside."""
    rho = np.hypot(u, v)
    if SHAPES[shape] == "disc":
        return 0.85 - rho
    if SHAPES[shape] == "square":
        return 0.72 - np.maximum(np.abs(u), np.abs(v))
    if SHAPES[shape] == "triangle":
        slope = np.float32(3**0.5 / 2)
        return 0.48 - np.maximum(-v, np.maximum(slope * u + v / 2, -slope * u + v / 2))
    if SHAPES[shape] == "cross":
        near, far = np.minimum(np.abs(u), np.abs(v)), np.maximum(np.abs(u), np.abs(v))
        return np.minimum(0.3 - near, 0.9 - far)
    if SHAPES[shape] == "ring":
        return 0.25 - np.abs(rho - 0.68)
    return 0.62 + 0.3 * np.cos(5 * np.arctan2(v, u)) - rho


def _edge(distance: np.ndarray, side: int) -> np.ndarray:
    """Coverage with an edge about one pixel wide."""
    return np.clip(distance * np.float32(side / 4) + np.float32(0.5), 0, 1)


def _texture(texture: np.ndarray, u: np.ndarray, v: np.ndarray, r: np.ndarray) -> np.ndarray:
    """−1…1: nothing, stripes, or checks, in the shape's own directions."""
    pitch = _between(r[:, 4], 7.0, 10.0)
    phase = (r[:, 5] * np.float32(2 * np.pi))[:, None, None]
    stripes = np.sin(pitch * u + phase)
    checks = np.sin(pitch * u + phase) * np.sin(pitch * v + phase)
    which = texture[:, None, None]
    return np.where(which == 1, np.sign(stripes), np.where(which == 2, np.sign(checks), 0)).astype(np.float32)


def _bar(x: np.ndarray, y: np.ndarray, r: np.ndarray, side: int) -> np.ndarray:
    """A straight bar across the picture, in another direction, that covers a part of the shape."""
    angle = (r[:, 17] * np.float32(np.pi))[:, None, None]
    offset = _between(r[:, 18], -0.5, 0.5)
    width = _between(r[:, 19], *BAR)
    across = x * np.cos(angle) + y * np.sin(angle) - offset
    return _edge((width / 2 - np.abs(across)) * 2, side)


VERSION = 1  # raised when the pictures change: it is part of their hash
CLASSES = tuple(f"{texture}-{shape}" for shape in SHAPES for texture in TEXTURES)
_STREAMS = {"train": 1, "test": 2}
_DEFAULTS = {"train": 16_000, "test": 20_000, "size": 32}
_KEPT_BYTES = 256 << 20
_DRAWN_AT_ONCE = 1 << 16  # pixels: what is drawn of them stays in the processor's cache


def open_synthetic(asked: Asked) -> DataSource:
    """Read ``synthetic:SEED[,train=…,test=…,size=…]``.

    Raises:
        BadInput: no seed, an unknown key, or a value out of range.
    """
    name = asked.name
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
    return DataSource(name, CLASSES, parts, (side, side), mean=half, std=half, disjoint=True, progress=asked.progress)


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
