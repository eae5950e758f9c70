"""Declared splits and class names of tables and arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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

    Args:
        words: one per picture.
        where: the file, for messages.
        lines: of the words in the file, or None.

    Returns:
        str ``[n]``.

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


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct names in order: by value where all are whole numbers, else by the alphabet."""
    distinct = set(names)
    if all(one.isdecimal() for one in distinct):
        return tuple(sorted(distinct, key=lambda one: (int(one), one)))
    return tuple(sorted(distinct))
