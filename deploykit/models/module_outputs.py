"""What a network takes and answers, found by running it once: channels of its input, tensors by name, its task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.base.task import Task, task_of_outputs
from deploykit.base.tensor_spec import TensorSpec


def input_channels(module: nn.Module) -> int:
    """The channels of the images that a network takes: those of its first convolution; 3 where it has none."""
    first = next((layer for layer in module.modules() if isinstance(layer, nn.Conv2d)), None)
    return 3 if first is None else first.in_channels


def named_outputs(value: Any, prefix: str = "output") -> dict[str, Tensor]:
    """Flatten what a module returned: one tensor is ``output``, a dict keeps its keys, a sequence is numbered.

    Raises:
        BadInput: it holds something that is no tensor.
    """
    if isinstance(value, Tensor):
        return {prefix: value}
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = [(f"{prefix}{i}", one) for i, one in enumerate(value) if one is not None]
    else:
        raise BadInput("the model's output is no tensor", got=type(value).__name__, expected="a tensor, dict or tuple")
    found: dict[str, Tensor] = {}
    for name, one in items:
        found |= named_outputs(one, str(name))
    if not found:
        raise BadInput("the model returns no tensor")
    return found


def first_output(value: Any) -> Tensor:
    """The first tensor of :func:`named_outputs`."""
    return value if isinstance(value, Tensor) else next(iter(named_outputs(value).values()))


def output_specs(module: nn.Module, shape: tuple[int, ...], batch: int = 1) -> tuple[TensorSpec, ...]:
    """The outputs of ``module`` for one black image of ``shape`` (channels, height, width), their batch left free.

    A module does not declare its outputs, so it is run. An output whose last operation is a Sigmoid says so.

    Raises:
        BadInput, RuntimeError, …: the network does not take this input, or answers no tensors.
    """
    first = next(module.parameters(), None)
    place = torch.device("cpu") if first is None else first.device
    x = torch.zeros(batch, *shape, device=place).requires_grad_()
    with torch.enable_grad():
        found = named_outputs(module(x))
    return tuple(
        TensorSpec(
            name,
            "float32",
            ("batch", *out.shape[1:]),
            {2: "NC", 4: "NCHW"}.get(out.ndim),
            sigmoid=out.grad_fn is not None and out.grad_fn.name().startswith("Sigmoid"),
        )
        for name, out in found.items()
    )


def task_of_module(module: nn.Module, preprocessing: Preprocessing | None) -> Task:
    """The task of a network whose file states none; one that cannot be run yet is taken as a classifier."""
    if preprocessing is None:
        return "classify"
    try:
        return task_of_outputs(output_specs(module, preprocessing.shape))
    except BadInput:
        return "none"
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError, NotImplementedError):
        return "classify"  # the size is wrong: who runs it says so
