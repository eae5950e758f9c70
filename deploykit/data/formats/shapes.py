"""Drawing the synthetic pictures, many at once."""

from __future__ import annotations

import numpy as np

from deploykit.data.formats.draws import bells, uniforms

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

    Args:
        key: uint64 ``[n]``, decides everything but the class.
        labels: int64 ``[n]``, shape × 3 + texture.
        side: pixels.

    Returns:
        uint8 ``[n, side, side, 3]``.
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
