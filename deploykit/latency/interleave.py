"""Which of a few candidates is faster, measured here and now: interleaved blocks in one process, in rounds of random order.

For choices inside a command (where int8 pays); reports are measured by ``deploykit benchmark`` in worker processes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from deploykit.base.runner import Feed, Runner, bound_call

ROUNDS = 15
BLOCK_S = 0.02


def interleaved_s(runners: Mapping[str, Runner], x: Feed, *, rounds: int = ROUNDS, seed: int = 0) -> dict[str, float]:
    """Seconds a call of each runner on the same input, as a multiple of the first one's in the same round.

    Every round times one block (at least three calls and 20 ms, after one untimed call) of every runner in random
    order. A runner's figure is the median over rounds of its ratio to the first, times the first's median: what
    drifts with the machine cancels.
    """
    blocks = interleaved_blocks_s(runners, x, rounds=rounds, seed=seed)
    first = next(iter(blocks.values()))
    return {name: float(np.median(times / first) * np.median(first)) for name, times in blocks.items()}


def interleaved_blocks_s(
    runners: Mapping[str, Runner], x: Feed, *, rounds: int = ROUNDS, seed: int = 0
) -> dict[str, np.ndarray]:
    """Seconds a call in every block of :func:`interleaved_s`, float64 [rounds]; equal rounds belong together."""
    calls: dict[str, Callable[[], Any]] = {name: bound_call(runner, x) for name, runner in runners.items()}
    blocks: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    shuffle = random.Random(seed)
    for _ in range(rounds):
        shuffle.shuffle(order)
        for name in order:
            blocks[name].append(_block(calls[name]))
    return {name: np.asarray(times) for name, times in blocks.items()}


def _block(call: Callable[[], Any]) -> float:
    call()
    count, start = 0, time.perf_counter()
    while count < 3 or time.perf_counter() - start < BLOCK_S:
        call()
        count += 1
    return (time.perf_counter() - start) / count


EXTRA_EVERY = 3


def schedule(names: Sequence[str], timed: Sequence[str], seed: int) -> Iterator[list[tuple[str, str]]]:
    """Endless rounds of ``(variant, what is timed)``.

    Every round has one block of the first kind (the primary one) for each variant; every third round, the first among
    them, also has one of each further kind. The order within a round is random, so that no variant always follows the
    same one.

    ``timed``: what is timed, the primary kind first.
    """
    generator = np.random.default_rng(seed)
    number = 0
    while True:
        kinds = timed if number % EXTRA_EVERY == 0 else timed[:1]
        slots = [(name, kind) for name in names for kind in kinds]
        yield [slots[i] for i in generator.permutation(len(slots))]
        number += 1
