"""The outputs of a module by name, whatever container it returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from deploykit.base.errors import BadInput


def named_outputs(value: Any, prefix: str = "output") -> dict[str, torch.Tensor]:
    """Flatten what a module returned: one tensor is ``output``, a dict keeps its keys, a sequence is numbered.

    Raises:
        BadInput: it holds something that is no tensor.
    """
    if isinstance(value, torch.Tensor):
        return {prefix: value}
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = [(f"{prefix}{i}", one) for i, one in enumerate(value) if one is not None]
    else:
        raise BadInput("the model's output is no tensor", got=type(value).__name__, expected="a tensor, dict or tuple")
    found: dict[str, torch.Tensor] = {}
    for name, one in items:
        found |= named_outputs(one, str(name))
    if not found:
        raise BadInput("the model returns no tensor")
    return found


def first_output(value: Any) -> torch.Tensor:
    """The first tensor of :func:`named_outputs`."""
    return value if isinstance(value, torch.Tensor) else next(iter(named_outputs(value).values()))
