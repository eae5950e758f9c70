"""How many CPU threads training takes: a fixed rule of the machine's cores, so that the same command makes the same bytes.

Gradients of weights are sums whose order depends on the number of threads. A stopwatch that chose it made another file on
a busy machine than on a quiet one. The rule leaves one core alone: threads wait for each other after every layer, so that
one of them without a core of its own stops all (five steps took 0.66 s with one thread and 6.85 s with two on two cores
beside another process, where an idle machine gains 1.4 times), and reading images needs a core too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from deploykit.base.environment import physical_cores

MOST = 16
"""More threads than this gain little at usual batch sizes, and cross the sockets of large machines."""


@dataclass(frozen=True)
class Threads:
    """The decision and why.

    ``count``: threads to use. ``why``: one sentence.
    """

    count: int
    why: str


def threads_of(asked: int | None, local_world: int = 1) -> Threads:
    """As asked, else as ``OMP_NUM_THREADS`` says, else this process's share of the physical cores, less one, at most 16.

    ``asked``: by the user. ``local_world``: processes on this machine, which share its cores.
    """
    if asked is not None:
        return Threads(asked, f"{_noun(asked)}, as asked")
    stated = os.environ.get("OMP_NUM_THREADS", "")
    if stated.isdigit() and int(stated) > 0:
        return Threads(int(stated), f"{_noun(int(stated))}, as OMP_NUM_THREADS says")
    cores = physical_cores()
    count = max(1, min(cores // local_world - 1, MOST))
    return Threads(count, f"{_noun(count)}, by the rule for {cores} cores; --threads takes another number")


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """PyTorch's number of CPU threads inside the block, and as it was after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _noun(count: int) -> str:
    return f"{count} CPU thread" + ("" if count == 1 else "s")
