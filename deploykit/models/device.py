"""Where a network computes: the device that is meant, and being on it for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from deploykit.base.errors import Unavailable


def chosen_device(device: str) -> str:
    """``cpu`` or ``cuda`` for ``auto``, ``cpu`` or ``cuda``.

    Raises:
        Unavailable: ``cuda`` is asked for and there is none.
    """
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise Unavailable("no CUDA GPU can be used", fix="`deploykit doctor` tells why; or pass --device cpu.")
    return ("cuda" if there else "cpu") if device == "auto" else device


@contextmanager
def placed(module: nn.Module, device: str) -> Iterator[None]:
    """``module`` lies on ``device`` inside, and on the CPU after."""
    if device == "cpu":
        yield
        return
    module.to(device)
    try:
        yield
    finally:
        module.to("cpu")


def beside(module: nn.Module, values: np.ndarray) -> Tensor:
    """``values`` as a tensor where the parameters of ``module`` lie; on the CPU it shares their memory."""
    first = next(module.parameters(), None)
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor if first is None else tensor.to(first.device)
