"""Where a network computes: being on a device for a while, and tensors beside its parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn


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
