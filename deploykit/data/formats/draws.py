"""Random numbers by counter: each is a pure function of its place, so that any picture can be made on its own."""

from __future__ import annotations

import numpy as np

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
