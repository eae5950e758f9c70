"""Who is timed when: rounds in which everyone comes once, in random order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

EXTRA_EVERY = 3


def schedule(names: Sequence[str], timed: Sequence[str], seed: int) -> Iterator[list[tuple[str, str]]]:
    """Endless rounds of ``(variant, what is timed)``.

    Every round has one block of the first kind (the primary one) for each variant; every third round, the first among
    them, also has one of each further kind. The order within a round is random, so that no variant always follows the
    same one.

    Args:
        names: of the variants.
        timed: what is timed, the primary kind first.
        seed: equal seeds give equal orders.
    """
    generator = np.random.default_rng(seed)
    number = 0
    while True:
        kinds = timed if number % EXTRA_EVERY == 0 else timed[:1]
        slots = [(name, kind) for name in names for kind in kinds]
        yield [slots[i] for i in generator.permutation(len(slots))]
        number += 1
