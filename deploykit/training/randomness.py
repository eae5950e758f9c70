"""Random numbers that depend on what they are for and on nothing else.

A resumed run, or one on another number of processes, draws the same numbers for the same picture without any
generator state being stored.
"""

from __future__ import annotations

import hashlib

import numpy as np


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed from the run's seed and what it is for (``seed_of(7, "step", 12)``)."""
    text = ":".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def uniform(seed: int, indices: np.ndarray, count: int) -> np.ndarray:
    """Uniform numbers of [0, 1) for each index: SplitMix64 (Steele, Lea & Flood 2014, figure 11) used as a hash.

    ``indices``: int64 [N], of the pictures. ``count``: how many numbers each gets. Returns float64 [N, count]; a row
    depends on ``seed`` and its index only.
    """
    counter = indices.astype(np.uint64)[:, None] * np.uint64(count) + np.arange(1, count + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z: np.ndarray = np.uint64(seed) + counter * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
