"""Which images are in a split, and which of a split are looked at.

A part of the images that needs no declaration is drawn by their hashes (:func:`draw`), under a purpose of its own; a number of
images of a split is chosen by :func:`sample`, and nowhere else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np

from deploykit.base.errors import BadInput

_WORDS = {
    "train": "train",
    "training": "train",
    "select": "select",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


def split_of(words: Sequence[str], where: str, lines: Sequence[int] | None = None) -> np.ndarray:
    """Splits as declared → ``train``, ``select`` or ``test``; ``val`` is the test split where there is no other.

    ``words``: one per picture. ``lines``: of the words in the file, or None. Returns str ``[n]``.

    Raises:
        BadInput: an unknown word, or no train and no test pictures.
    """
    found = np.array([_WORDS.get(one.strip().lower(), "") for one in words], dtype="U6")
    if (found == "").any():
        i = int(np.flatnonzero(found == "")[0])
        place = f"{where}, line {lines[i]}" if lines else f"{where}, picture {i}"
        raise BadInput(f"{place}: unknown split", got=repr(words[i]), expected="train, select, val or test")
    found[found == "val"] = "select" if (found == "test").any() and not (found == "select").any() else "test"
    if not {"train", "test"} & set(found.tolist()):
        raise BadInput(f"{where}: every picture is in the split select", expected="train and test")
    return found


def draw(hashes: np.ndarray, purpose: str, share: float) -> np.ndarray:
    """Choose about ``share`` of pictures by their hash alone: stable under order and under pictures that are added.

    Of few pictures none may fall below the share: then the one nearest to it is chosen.

    ``hashes``: ``S64`` ``[n]``. ``purpose``: decorrelates several draws from the same hashes. ``share``: 0…1. Returns
    bool ``[n]``; equal hashes have equal answers.
    """
    if len(hashes) == 0:
        return np.zeros(0, dtype=bool)
    prefix = f"{purpose}:".encode()
    place = np.array(
        [int.from_bytes(hashlib.sha256(prefix + one).digest()[:8], "big") for one in hashes.tolist()], dtype=np.uint64
    )
    chosen = place < np.uint64(int(share * 2**64))
    if not chosen.any() and len(np.unique(place)) > 1:
        chosen = place == place.min()
    return chosen


Order = Literal["spread", "ends", "drawn", "drawn-sorted"]


def sample(size: int, count: int | None, order: Order = "spread", seed: int | np.random.Generator = 0) -> np.ndarray:
    """The images of a split that are looked at.

    ``size``: number of images in the split. ``count``: how many at most; None: all. ``order``: ``spread``: evenly from
    the first one on; ``ends``: evenly, the first and the last one among them; ``drawn``: at random without replacement,
    in the order of the draw; ``drawn-sorted``: the same ones in the order of the split. Returns indices int64
    ``[min(count, size)]``, each once.
    """
    count = size if count is None else min(count, size)
    if order == "spread":
        return np.arange(count, dtype=np.int64) * size // max(count, 1)
    if order == "ends":
        return np.linspace(0, size - 1, count).round().astype(np.int64)
    drawn: np.ndarray = np.random.default_rng(seed).permutation(size)[:count]
    return np.sort(drawn) if order == "drawn-sorted" else drawn
