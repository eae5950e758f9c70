"""What a network's Python code decides by the values of an image: a tracer keeps the decision of its example for ever.

Each place is noted where code takes a number out of a tensor (``if``, ``float``, ``.item()``, ``.numpy()`` …) while the
network runs eagerly on images of many kinds. Sizes are no tensors then, so what hangs on them alone is not among these.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from deploykit.exporting.run_failure import FAILURES
from deploykit.exporting.user_line import line_here

_TAKING = {
    Tensor.__bool__,
    Tensor.__int__,
    Tensor.__float__,
    Tensor.__index__,
    Tensor.__complex__,
    Tensor.__contains__,
    Tensor.__array__,
    Tensor.item,
    Tensor.tolist,
    Tensor.numpy,
    Tensor.is_nonzero,
    Tensor.equal,
    Tensor.allclose,
    torch.is_nonzero,
    torch.equal,
    torch.allclose,
}


class _Taken(TorchFunctionMode):
    """Line → the values taken there, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, list[object]] = defaultdict(list)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        if func in _TAKING and (line := line_here()) is not None:
            self.values[line].append(np.array(answer) if isinstance(answer, np.ndarray) else answer)
        return answer


def probes(images: Tensor) -> list[Tensor]:
    """Inputs of many kinds, as ``images`` ``[N, C, H, W]``: each image, darker and brighter, beyond any range, noise."""
    noise = torch.randn(images[:1].shape, generator=torch.Generator().manual_seed(0))
    each = [images[place : place + 1] for place in range(min(4, len(images)))]
    flat = [torch.full_like(each[0], value) for value in (-2.5, 0.0, 2.5)]
    return [
        *each,
        0.1 * each[0],
        *flat,
        *(scale * noise + shift for scale, shift in ((1, 0), (4, 0), (0.1, 3), (0.1, -3))),
    ]


def decisions(module: nn.Module, inputs: Sequence[Tensor]) -> dict[str, list[list[object]]]:
    """Line of code → the different values taken out of tensors there, one list for each input; one where all are equal.

    ``inputs``: ``[N, C, H, W]`` each.
    """
    found: dict[str, list[list[object]]] = defaultdict(list)
    for x in inputs:
        with torch.inference_mode(), _Taken() as taken, suppress(*FAILURES):  # its own checks may refuse such an image
            module(x)
        for line, values in taken.values.items():
            if not any(_equal(values, one) for one in found[line]):
                found[line].append(values)
    return dict(found)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(np.array_equal(one, other))
