"""One forward pass in which every activation carries the channel that each of its elements belongs to.

Convolutions, linear layers and norms are met as functions, where their parameters are arguments; whatever else runs is met
as an ATen operator. Moving operators (view, permute, slice, cat …) move the labels alike, so that channel splits, shuffles and
flattening need no special case; element-wise ones tie the channels they combine; unknown ones fix all that they touch.
The pass runs on the meta device, without arithmetic, where the network allows it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from deploykit.base.errors import BadInput
from deploykit.pruning.records import BATCH, Records, Tracing
from deploykit.pruning.trace_layers import LAYER_RULES
from deploykit.pruning.trace_rules import rule_for


def trace(module: nn.Module, shape: tuple[int, int, int]) -> Records:
    """Run ``module`` on two blank images of ``shape`` (channels, height, width) and record its channels.

    ``module``: in any mode; a copy runs, in eval mode.

    Raises:
        BadInput: the network does not run at this size, or returns no tensor.
    """
    try:
        return trace_on("meta", module, shape)
    except (RuntimeError, NotImplementedError, TypeError):  # values are looked at, or tensors kept outside buffers
        try:
            return trace_on("cpu", module, shape)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            raise BadInput(f"the network does not run on images of {shape[1]}×{shape[2]} pixels: {error}") from error


def trace_on(
    device: str,
    module: nn.Module,
    shape: tuple[int, int, int],
    rows: Mapping[tuple[str, int], np.ndarray] | None = None,
) -> Records:
    """:func:`trace` on a device, with torch's own errors.

    ``rows`` are (tensor, dimension) → units, where a pruned network is traced with the units of the original.
    """
    records = _run(Tracing(copy_on(device, module).eval(), rows), shape)
    records.device = device
    return records


def copy_on(device: str, module: nn.Module) -> nn.Module:
    """A copy of ``module`` on a device, in which what was shared is shared (``Module.to`` parts tied weights)."""
    moved: dict[int, Any] = {}
    for parameter in module.parameters():
        moved[id(parameter)] = nn.Parameter(parameter.detach().to(device, copy=True), parameter.requires_grad)
    for buffer in module.buffers():
        moved[id(buffer)] = buffer.detach().to(device, copy=True)
    return copy.deepcopy(module, moved)


def _run(t: Tracing, shape: tuple[int, int, int]) -> Records:
    device = next((p.device for p in t.module.parameters()), torch.device("cpu"))
    x = torch.zeros(BATCH, *shape, device=device)
    t.alive.append(x)
    with _naming(t), torch.no_grad(), _Functions(t), _Operators(t):
        output = t.module(x)
    outputs = [one for one in tree_leaves(output) if isinstance(one, Tensor)]
    if not outputs:
        raise BadInput(
            "the network cannot be pruned: it returns no tensor", got=type(output).__name__, expected="one or several"
        )
    t.fix(outputs, "it makes the network's output")
    t.records.output_shapes = [tuple(one.shape) for one in outputs]
    t.records.rows = t.rows
    return t.records


@contextmanager
def _naming(t: Tracing) -> Iterator[None]:
    """Keep the name of the module that runs, for reasons."""

    def leave(*_: Any) -> None:
        t.inside.pop()

    handles = []
    for name, layer in t.module.named_modules():
        handles.append(layer.register_forward_pre_hook(lambda *_, name=name: t.inside.append(name)))
        handles.append(layer.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Functions(TorchFunctionMode):
    """Meets the functions whose arguments are parameters."""

    def __init__(self, tracing: Tracing) -> None:
        super().__init__()
        self.tracing = tracing

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        handler = LAYER_RULES.get(func)
        if handler is None or self.tracing.opaque:
            return func(*args, **kwargs)
        self.tracing.opaque += 1
        try:
            result = func(*args, **kwargs)
        finally:
            self.tracing.opaque -= 1
        labels = handler(self.tracing, result, *args, **kwargs)
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self.tracing.put(
                    tensor, labels if labels is not None else torch.zeros([1] * tensor.ndim, dtype=torch.int64)
                )
        return result


class _Operators(TorchDispatchMode):
    """Meets everything else."""

    def __init__(self, tracing: Tracing) -> None:
        super().__init__()
        self.tracing = tracing

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not self.tracing.opaque:
            rule_for(func)(self.tracing, func, result, args, kwargs or {})
        return result
