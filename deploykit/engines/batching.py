"""Feeding graphs of a fixed batch size: any number of pictures in whole batches, the last one filled up."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from deploykit.base.runner import Runner

Run = Callable[["np.ndarray"], Mapping[str, "np.ndarray"]]


def filled(x: np.ndarray, size: int) -> np.ndarray:
    """``x`` with its last row repeated until there are ``size`` of them."""
    return x if len(x) >= size else np.concatenate([x, np.repeat(x[-1:], size - len(x), axis=0)])


def one_batch(runner: Runner, x: np.ndarray) -> np.ndarray:
    """What a call of ``runner`` is timed with: one picture, or as many as its engine takes in any call."""
    size = runner.inputs[0].fixed_batch or 1
    return filled(x[:size], size)


def in_whole_batches(run: Run, size: int) -> Run:
    """``run``, which takes only ``size`` rows, for any number of them.

    ``run``: from an input to all outputs by name. ``size``: rows of each call. Returns the same function, whose outputs
    have rows for the input's alone; an output without such rows is the last call's.
    """

    def whole(x: np.ndarray) -> Mapping[str, np.ndarray]:
        if len(x) == size:
            return run(x)
        calls = [(x[i : i + size], run(filled(x[i : i + size], size))) for i in range(0, len(x), size)]
        found: dict[str, np.ndarray] = {}
        for name, last in calls[-1][1].items():
            if np.ndim(last) and len(last) % size == 0:
                parts = [tensors[name][: len(part) * (len(last) // size)] for part, tensors in calls]
                found[name] = np.concatenate(parts)
            else:
                found[name] = last
        return found

    return whole
