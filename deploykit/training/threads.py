"""How many CPU threads train fastest here and now: measured, because another process can make two threads ten times slower
than one.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from deploykit.base.environment import cores

MARGIN = 1.15
ROUNDS = 3
LIMIT_S = 6.0


@dataclass(frozen=True)
class Threads:
    """The decision and why.

    ``count``: threads to use. ``why``: one sentence. ``step_ms``: median time of a step by number of threads; empty
    where nothing was measured.
    """

    count: int
    why: str
    step_ms: dict[int, float]


def fixed_threads(asked: int | None, local_world: int = 1) -> Threads | None:
    """The number of threads where nothing has to be measured, or None where a probe has to decide.

    ``asked``: by the user. ``local_world``: processes on this machine, which share its cores.
    """
    if asked is not None:
        return Threads(asked, f"{_noun(asked)}, as asked", {})
    stated = os.environ.get("OMP_NUM_THREADS", "")
    if stated.isdigit() and int(stated) > 0:
        return Threads(int(stated), f"{_noun(int(stated))}, as OMP_NUM_THREADS says", {})
    if cores() // local_world <= 1:
        return Threads(1, f"{_noun(1)}, there are no more cores", {})
    return None


def probe_threads(step: Callable[[], None], most: int) -> Threads:
    """Time real training steps with one thread, half of ``most`` and ``most``, turn by turn.

    More threads are taken only where they are faster by 15 %: fewer disturb less and are disturbed less.

    ``step``: runs one training step. ``most``: cores that may be used.
    """
    candidates = sorted({1, most // 2 if most >= 8 else 1, most})
    before = torch.get_num_threads()
    taken: dict[int, list[float]] = {count: [] for count in candidates}
    start = time.perf_counter()
    try:
        for turn in range(ROUNDS + 1):
            for count in candidates:
                torch.set_num_threads(count)
                begin = time.perf_counter()
                step()
                if turn > 0 or time.perf_counter() - start > LIMIT_S:  # the first turn warms up
                    taken[count].append(time.perf_counter() - begin)
            if time.perf_counter() - start > LIMIT_S and all(taken.values()):
                break
    finally:
        torch.set_num_threads(before)
    return choose(taken)


def choose(taken: dict[int, list[float]]) -> Threads:
    """The number of threads by the times (s) that steps took with each: the fewest that no other beats by 15 %."""
    step_ms = {count: 1000 * statistics.median(times) for count, times in taken.items() if times}
    best = min(step_ms)
    for count in sorted(step_ms):
        if step_ms[count] * MARGIN < step_ms[best]:
            best = count
    shown = ", ".join(f"{count}: {ms:.0f} ms" for count, ms in sorted(step_ms.items()))
    return Threads(best, f"{_noun(best)} (a training step by threads: {shown})", step_ms)


def _noun(count: int) -> str:
    return f"{count} CPU thread" + ("" if count == 1 else "s")
