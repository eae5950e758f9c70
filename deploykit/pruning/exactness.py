"""Whether a pruned network computes what the whole one does when nobody reads the removed channels: both are run and compared.

Code that uses a width as a number (``y / y.shape[1]``) runs at any width; only the numbers show that it depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from deploykit.base.progress import SILENT, Progress
from deploykit.pruning.channel_graph import Graph, Group
from deploykit.pruning.records import BATCH
from deploykit.pruning.surgery import mask, no_atoms, remove
from deploykit.pruning.trace import copy_on

WHY = "what the network computes depends on its width (a number read when it runs)"
EXACT_DB = 120.0
SURE_DB = 110.0
"""Of float32: what is nearer than this is equal but for rounding; what is not is computed again in float64."""
FLOAT_DB = 80.0
"""Of float32, where a network does not run in float64."""
LIGHTS = ((1.0, 0.0), (0.1, -2.0), (0.1, 2.0), (3.0, 0.0))
"""Spread and mean of the random images: ordinary, dark, bright, of strong contrast."""


def inexact_groups(module: nn.Module, graph: Graph, removed: np.ndarray, progress: Progress = SILENT) -> list[Group]:
    """The groups whose channels cannot be removed without changing what is computed; empty: ``removed`` can go as it is.

    The first group whose removal, with all before it, makes a difference is left whole, until none is left that does.

    ``module``: in eval mode; it is not changed. ``removed``: bool over atom ids. A network that answers differently each
    time cannot be judged: none is found, which ``progress`` is told.
    """
    found: list[Group] = []
    if is_exact(module, graph, removed):
        return found
    if not is_exact(module, graph, no_atoms(graph)):
        progress.warn("the network answers differently each time it runs, so nobody can see whether pruning is exact")
        return found
    trying = [group for group in graph.groups if removed[group.atoms].any()]
    while trying:
        low, high = 0, len(trying)  # without the first `low` groups it is exact, without `high` it is not
        while high - low > 1:
            middle = (low + high) // 2
            exact = is_exact(module, graph, _part(removed, trying[:middle]))
            low, high = (middle, high) if exact else (low, middle)
        found.append(trying.pop(low))
        if is_exact(module, graph, _part(removed, trying)):
            break
    return sorted(found, key=lambda group: int(group.atoms[0]))


def _part(removed: np.ndarray, groups: list[Group]) -> np.ndarray:
    """Of ``removed`` the atoms of these groups."""
    part = np.zeros_like(removed)
    for group in groups:
        part[group.atoms] = removed[group.atoms]
    return part


def is_exact(module: nn.Module, graph: Graph, removed: np.ndarray) -> bool:
    """Whether the network without ``removed`` answers as the whole one in which nobody reads them, but for rounding."""
    if (found := masked_snr_db(module, graph, removed, torch.float32)) >= SURE_DB:
        return True
    try:
        return masked_snr_db(module, graph, removed, torch.float64) >= EXACT_DB
    except RuntimeError:  # a constant of the network's own code is float32
        return found >= FLOAT_DB


def masked_snr_db(module: nn.Module, graph: Graph, removed: np.ndarray, dtype: torch.dtype) -> float:
    """How near both networks are over random images of several :data:`LIGHTS`: of the output that is least so.

    What is constant over the images would hide what depends on them, and is taken off both.

    Raises:
        RuntimeError: the whole network does not run in this type.
    """
    whole, pruned = (copy_on("cpu", module).eval().to(dtype) for _ in range(2))
    mask(whole, graph, removed)
    remove(pruned, graph, removed)
    expected = [_answers(whole, x) for x in _images(graph.shape, dtype)]
    try:
        got = [_answers(pruned, x) for x in _images(graph.shape, dtype)]
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError):
        return -np.inf
    if [[one.shape for one in batch] for batch in expected] != [[one.shape for one in batch] for batch in got]:
        return -np.inf
    outputs = zip(zip(*expected, strict=True), zip(*got, strict=True), strict=True)
    return min((_snr_db(torch.cat(reference), torch.cat(answer)) for reference, answer in outputs), default=np.inf)


def _images(shape: tuple[int, int, int], dtype: torch.dtype) -> Iterator[Tensor]:
    draw = torch.Generator().manual_seed(0)
    for spread, mean in LIGHTS:
        yield (spread * torch.randn(BATCH, *shape, generator=draw) + mean).to(dtype)


def _answers(module: nn.Module, x: Tensor) -> list[Tensor]:
    with torch.inference_mode():
        return [torch.atleast_1d(one).double() for one in tree_leaves(module(x)) if isinstance(one, Tensor)]


def _snr_db(reference: Tensor, answer: Tensor) -> float:
    finite = torch.isfinite(reference)
    if not torch.equal(finite, torch.isfinite(answer)):
        return -np.inf
    reference, noise = torch.where(finite, reference, 0.0), torch.where(finite, answer - reference, 0.0).square().sum()
    varying = (reference - reference.mean(0)).square().sum()
    signal = torch.maximum(varying, 1e-12 * reference.square().sum())
    return float(10 * torch.log10(signal / noise)) if noise else np.inf
