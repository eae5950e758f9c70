"""One forward pass in which every activation carries the channel that each of its elements belongs to.

Convolutions, linear layers and norms are met as functions, where their parameters are arguments; whatever else runs is met
as an ATen operator. Moving operators (view, permute, slice, cat …) move the labels alike, so that channel splits, shuffles and
flattening need no special case; element-wise ones tie the channels they combine; unknown ones fix all that they touch.
The pass runs on the meta device, without arithmetic, where the network allows it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from deploykit.base.errors import BadInput
from deploykit.pruning.labels import constant_along
from deploykit.pruning.records import LayerUse, Records, Site
from deploykit.pruning.rules import rule_for

BATCH = 2
"""Pictures in the trace: two, so that a view that mixes pictures is seen."""


def trace(module: nn.Module, size: tuple[int, int]) -> Records:
    """Run ``module`` on two blank pictures of ``size`` (height, width) and record its channels.

    Args:
        module: in any mode; a copy runs, in eval mode.
        size: of the input in pixels.

    Raises:
        BadInput: the network does not run at this size, or does not return one tensor.
    """
    try:
        return trace_on("meta", module, size)
    except (RuntimeError, NotImplementedError, TypeError):  # values are looked at, or tensors kept outside buffers
        try:
            return trace_on("cpu", module, size)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            raise BadInput(f"the network does not run on pictures of {size[0]}×{size[1]} pixels: {error}") from error


def trace_on(
    device: str, module: nn.Module, size: tuple[int, int], rows: Mapping[tuple[str, int], np.ndarray] | None = None
) -> Records:
    """:func:`trace` on a device, with torch's own errors.

    ``rows`` are (tensor, dimension) → units, where a pruned network is traced with the units of the original.
    """
    records = _Tracer(copy_on(device, module).eval(), rows).run(size)
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


class _Tracer:
    """The state of one traced pass."""

    def __init__(self, module: nn.Module, rows: Mapping[tuple[str, int], np.ndarray] | None) -> None:
        self.module, self.records = module, Records()
        self.rows: dict[tuple[str, int], np.ndarray] = dict(rows or {})
        self.sites: dict[tuple[str, int], Site] = {}
        if rows:
            self.records.count = 1 + max(int(units.max(initial=0)) for units in rows.values())
        named = [*module.named_parameters(), *module.named_buffers()]
        self.names = {id(tensor): name for name, tensor in named}
        self.stored = module.state_dict().keys()
        self.labels: dict[int, Tensor] = {}
        self.alive: list[Any] = []
        self.opaque = 0
        self.inside: list[str] = []

    def run(self, size: tuple[int, int]) -> Records:
        device = next((p.device for p in self.module.parameters()), torch.device("cpu"))
        x = torch.zeros(BATCH, 3, *size, device=device)
        self.alive.append(x)
        with self._naming(), torch.no_grad(), _Functions(self), _Operators(self):
            output = self.module(x)
        if not isinstance(output, Tensor):
            raise BadInput(
                "the network cannot be pruned: it does not return one tensor",
                got=type(output).__name__,
                expected="logits",
            )
        self.records.fix(self.get(output).numpy().ravel(), "it makes the network's output")
        self.records.output_shape = tuple(output.shape)
        self.records.rows = self.rows
        return self.records

    @contextmanager
    def _naming(self):  # type: ignore[no-untyped-def]
        """Keep the name of the module that runs, for reasons."""
        handles = []
        for name, layer in self.module.named_modules():
            handles.append(layer.register_forward_pre_hook(lambda *_, name=name: self.inside.append(name)))
            handles.append(layer.register_forward_hook(self._leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _leave(self, *_: Any) -> None:
        self.inside.pop()

    @property
    def place(self) -> str:
        return (self.inside[-1] if self.inside else "") or type(self.module).__name__

    def name(self, tensor: Any) -> str | None:
        return self.names.get(id(tensor)) if isinstance(tensor, Tensor) else None

    def get(self, tensor: Tensor) -> Tensor:
        """The labels of a tensor, broadcastable to its shape."""
        found = self.labels.get(id(tensor))
        if found is not None:
            return found
        name = self.name(tensor)
        wide = [dim for dim, extent in enumerate(tensor.shape) if extent > 1]
        if name is not None and len(wide) == 1:  # a vector of channels: a scale, a shift
            labels = self.units(name, wide[0], tensor.shape[wide[0]])
            self.site(name, wide[0], labels, "follow")
            shape = [1] * tensor.ndim
            shape[wide[0]] = -1
            found = torch.from_numpy(labels).reshape(shape)
            self.put(tensor, found)
            return found
        return torch.zeros([1] * tensor.ndim, dtype=torch.int64)

    def put(self, tensor: Any, labels: Tensor) -> None:
        self.labels[id(tensor)] = labels
        self.alive.append(tensor)

    def units(self, name: str, dim: int, size: int) -> np.ndarray:
        """The units that the indices of a tensor's dimension stand for, made where they are met first."""
        known = self.rows.get((name, dim))
        if known is None:
            start = self.records.count
            known = np.arange(start, start + size, dtype=np.int64)
            self.records.count += size
            self.rows[name, dim] = known
        if len(known) != size:
            raise RuntimeError(f"{name} has {size} channels instead of {len(known)}")
        return known

    def site(self, name: str, dim: int, labels: np.ndarray, role: Any) -> None:
        if name not in self.stored:
            self.records.fix(labels.ravel(), f"{name} depends on its width and is not kept in files")
            return
        known = self.sites.get((name, dim))
        if known is not None:  # the layer runs twice, or its tensor is shared
            self.records.tie(known.labels.ravel(), labels.ravel())
            return
        self.sites[name, dim] = Site(name, dim, labels, role)
        self.records.sites.append(self.sites[name, dim])

    def channels(self, tensor: Tensor, dim: int, why: str) -> np.ndarray:
        """The unit of each index along ``dim``; units that vary along another dimension too are fixed."""
        labels = self.get(tensor)
        dim %= tensor.ndim
        if any(extent > 1 for at, extent in enumerate(labels.shape) if at != dim):
            self.records.fix(labels.numpy().ravel(), why)
            return np.zeros(tensor.shape[dim], dtype=np.int64)
        return labels.reshape(-1).expand(tensor.shape[dim]).numpy().copy()

    def fix(self, tensors: Any, why: str) -> None:
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, Tensor):
                self.records.fix(self.get(tensor).numpy().ravel(), why)


class _Functions(TorchFunctionMode):
    """Meets the functions whose arguments are parameters."""

    def __init__(self, tracer: _Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        handler = _HANDLERS.get(func)
        if handler is None or self.tracer.opaque:
            return func(*args, **kwargs)
        self.tracer.opaque += 1
        try:
            result = func(*args, **kwargs)
        finally:
            self.tracer.opaque -= 1
        labels = handler(self.tracer, result, *args, **kwargs)
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self.tracer.put(
                    tensor, labels if labels is not None else torch.zeros([1] * tensor.ndim, dtype=torch.int64)
                )
        return result


class _Operators(TorchDispatchMode):
    """Meets everything else."""

    def __init__(self, tracer: _Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not self.tracer.opaque:
            rule_for(func)(self.tracer, func, result, args, kwargs or {})
        return result


def _convolution(
    t: _Tracer,
    out: Tensor,
    input: Tensor,  # torch's own names: callers pass them as keywords
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    dim = input.ndim - (weight.ndim - 1)
    name = t.name(weight)
    inputs = t.channels(input, dim, f"{t.place} reads its channels from several places of the picture")
    if name is None or dim != 1:
        t.records.fix(inputs, f"{t.place} computes its weights")
        t.fix((weight, bias), f"{t.place} computes its weights")
        return None
    depthwise = groups > 1 and groups == len(inputs) and weight.shape[1] == 1
    if depthwise:
        outputs = np.repeat(inputs, weight.shape[0] // groups)
        t.site(name, 0, outputs, "follow")
    else:
        outputs = t.units(name, 0, weight.shape[0])
        t.site(name, 0, outputs, "produce")
        t.site(name, 1, inputs if groups == 1 else inputs.reshape(groups, -1), "consume")
        if groups > 1:
            t.records.blocks += [(inputs, groups), (outputs, groups)]
    _bias(t, bias, outputs)
    t.records.layers.append(
        LayerUse(
            name.rpartition(".")[0] or name,
            f"Conv{weight.ndim - 2}d",
            name,
            out[0, 0].numel(),
            weight[0, 0].numel(),
            groups,
            depthwise,
            outputs,
            inputs,
        )
    )
    return torch.from_numpy(outputs).reshape([1, -1] + [1] * (out.ndim - 2))


def _linear(t: _Tracer, out: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    name = t.name(weight)
    inputs = t.channels(input, -1, f"{t.place} reads its channels from several places")
    if name is None:
        t.records.fix(inputs, f"{t.place} computes its weights")
        t.fix((weight, bias), f"{t.place} computes its weights")
        return None
    outputs = t.units(name, 0, weight.shape[0])
    t.site(name, 0, outputs, "produce")
    t.site(name, 1, inputs, "consume")
    _bias(t, bias, outputs)
    positions = out.numel() // (BATCH * out.shape[-1])
    layer = name.rpartition(".")[0] or name
    t.records.layers.append(LayerUse(layer, "Linear", name, positions, 1, 1, False, outputs, inputs))
    return torch.from_numpy(outputs).reshape([1] * (out.ndim - 1) + [-1])


def _bias(t: _Tracer, bias: Tensor | None, outputs: np.ndarray) -> None:
    if bias is None:
        return
    name = t.name(bias)
    if name is None:
        t.records.fix(outputs, f"{t.place} computes its bias")
        t.fix(bias, f"{t.place} computes its bias")
    else:
        t.site(name, 0, outputs, "follow")


def _per_channel_norm(
    t: _Tracer,
    out: Tensor,
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *_: Any,
    **__: Any,
) -> Tensor:
    units = t.channels(input, 1, f"{t.place} normalises what is no plain channel")
    for tensor in (running_mean, running_var, weight, bias):
        if tensor is None:
            continue
        name = t.name(tensor)
        if name is None:
            t.records.fix(units, f"{t.place} computes its parameters")
            t.fix(tensor, f"{t.place} computes its parameters")
        else:
            t.site(name, 0, units, "follow")
    return torch.from_numpy(units).reshape([1, -1] + [1] * (out.ndim - 2))


def _torch_batch_norm(
    t: _Tracer,
    out: Tensor,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    *_: Any,
    **__: Any,
) -> Tensor:
    return _per_channel_norm(t, out, input, running_mean, running_var, weight, bias)


def _layer_norm(t: _Tracer, out: Tensor, input: Tensor, normalized_shape: Any, *_: Any, **__: Any) -> Tensor:
    labels, dims = t.get(input), range(input.ndim - len(normalized_shape), input.ndim)
    if not constant_along(labels, dims):
        t.records.fix(labels.numpy().ravel(), f"{t.place} (LayerNorm) computes its statistics over the channels")
    return labels


def _group_norm(t: _Tracer, out: Tensor, input: Tensor, *_: Any, **__: Any) -> Tensor:
    t.fix(input, f"{t.place} (GroupNorm) computes its statistics over several channels")
    return t.get(input)


def _attention(t: _Tracer, out: Any, *args: Any, **kwargs: Any) -> None:
    tensors = [tensor for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)]
    t.fix([tensor for tensor in tensors if t.name(tensor) is None], f"{t.place} (attention) mixes its channels")


_HANDLERS: dict[Any, Callable[..., Tensor | None]] = {
    torch.conv1d: _convolution,
    torch.conv2d: _convolution,
    torch.conv3d: _convolution,
    functional.linear: _linear,
    functional.batch_norm: _per_channel_norm,
    functional.instance_norm: _per_channel_norm,
    torch.batch_norm: _torch_batch_norm,
    functional.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
    functional.group_norm: _group_norm,
    functional.scaled_dot_product_attention: _attention,
    functional.multi_head_attention_forward: _attention,
    torch._native_multi_head_attention: _attention,
}
