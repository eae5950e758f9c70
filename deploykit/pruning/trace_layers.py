"""How the functions whose arguments are parameters, of convolutions, linear layers and norms, pass labels on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from deploykit.models.macs import COUNTED
from deploykit.pruning.records import BATCH, LayerUse, Tracing, constant_along


def _read(t: Tracing, input: Tensor, dim: int, weight: Tensor, bias: Tensor | None) -> tuple[str | None, np.ndarray]:
    """The name of a weight, and the units of what it reads; None, and all is fixed, where it is computed or reads no batch."""
    name = t.name(weight)
    inputs = t.channels(input, dim, f"{t.place} reads its channels from several places of the image")
    if name is None or dim == 0:
        t.records.fix(inputs, f"{t.place} computes its weights")
        t.fix((weight, bias), f"{t.place} computes its weights")
        return None, inputs
    return name, inputs


def _convolution(
    t: Tracing,
    out: Tensor,
    input: Tensor,  # torch's own names: callers pass them as keywords
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    name, inputs = _read(t, input, input.ndim - (weight.ndim - 1), weight, bias)
    if name is None:
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
    _follow(t, bias, outputs, "bias")
    kind = f"Conv{weight.ndim - 2}d"
    _note(
        t,
        weight,
        LayerUse(name, kind, name, out[0, 0].numel(), weight[0, 0].numel(), groups, depthwise, outputs, inputs),
    )
    return torch.from_numpy(outputs).reshape([1, -1] + [1] * (out.ndim - 2))


def _transposed(
    t: Tracing,
    out: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor | None:
    """A weight of [inputs, outputs of a group, …]."""
    name, inputs = _read(t, input, input.ndim - (weight.ndim - 1), weight, bias)
    if name is None:
        return None
    depthwise = groups > 1 and groups == len(inputs)
    if depthwise:
        outputs = np.repeat(inputs, weight.shape[1])
        t.site(name, 0, inputs, "follow")
    else:
        outputs = t.units(name, 1, weight.shape[1] * groups)
        t.site(name, 0, inputs, "consume")
        t.site(name, 1, outputs if groups == 1 else outputs.reshape(groups, -1), "produce")
        if groups > 1:
            t.records.blocks += [(inputs, groups), (outputs, groups)]
    _follow(t, bias, outputs, "bias")
    kind = f"ConvTranspose{weight.ndim - 2}d"
    _note(
        t,
        weight,
        LayerUse(name, kind, name, input[0, 0].numel(), weight[0, 0].numel(), groups, depthwise, outputs, inputs),
    )
    return torch.from_numpy(outputs).reshape([1, -1] + [1] * (out.ndim - 2))


def _note(t: Tracing, weight: Tensor, layer: LayerUse) -> None:
    """Add a call under its module's name; a weight that no layer of its own runs with is not counted, as hooks do not see it."""
    running = t.module.get_submodule(t.inside[-1] if t.inside else "")
    counted = isinstance(running, COUNTED) and getattr(running, "weight", None) is weight
    name = layer.tensor.rpartition(".")[0] or layer.tensor
    t.records.layers.append(replace(layer, name=name, positions=layer.positions if counted else 0))


def _linear(t: Tracing, out: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    name, inputs = _read(t, input, -1, weight, bias)
    if name is None:
        return None
    outputs = t.units(name, 0, weight.shape[0])
    t.site(name, 0, outputs, "produce")
    t.site(name, 1, inputs, "consume")
    _follow(t, bias, outputs, "bias")
    positions = out.numel() // (BATCH * out.shape[-1])
    _note(t, weight, LayerUse(name, "Linear", name, positions, 1, 1, False, outputs, inputs))
    return torch.from_numpy(outputs).reshape([1] * (out.ndim - 1) + [-1])


def _follow(t: Tracing, tensor: Tensor | None, units: np.ndarray, what: str) -> None:
    """A vector of one number for each channel; one that is computed keeps its channels."""
    if tensor is None:
        return
    name = t.name(tensor)
    if name is None:
        t.records.fix(units, f"{t.place} computes its {what}")
        t.fix(tensor, f"{t.place} computes its {what}")
    else:
        t.site(name, 0, units, "follow")


def _per_channel_norm(
    t: Tracing,
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
        _follow(t, tensor, units, "parameters")
    return torch.from_numpy(units).reshape([1, -1] + [1] * (out.ndim - 2))


def _torch_batch_norm(
    t: Tracing,
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


def _layer_norm(t: Tracing, out: Tensor, input: Tensor, normalized_shape: Any, *_: Any, **__: Any) -> Tensor:
    labels, dims = t.get(input), range(input.ndim - len(normalized_shape), input.ndim)
    if not constant_along(labels, dims):
        t.records.fix(labels.numpy().ravel(), f"{t.place} (LayerNorm) computes its statistics over the channels")
    return labels


def _group_norm(
    t: Tracing,
    out: Tensor,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *_: Any,
    **__: Any,
) -> Tensor:
    """Statistics over the channels of a group, which go together; without parameters no file could tell how many are left."""
    units = t.channels(input, 1, f"{t.place} normalises what is no plain channel")
    if num_groups == 1 or t.name(weight) is None:
        over = "all channels" if num_groups == 1 else "channels and has no parameters"
        t.records.fix(units, f"{t.place} (GroupNorm) computes its statistics over {over}")
    groups = units.reshape(num_groups, -1)
    t.records.tie(units, np.repeat(groups[:, 0], groups.shape[1]))
    for tensor in (weight, bias):
        _follow(t, tensor, units, "parameters")
    return torch.from_numpy(units).reshape([1, -1] + [1] * (out.ndim - 2))


def _attention(t: Tracing, out: Any, *args: Any, **kwargs: Any) -> None:
    tensors = [tensor for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)]
    t.fix([tensor for tensor in tensors if t.name(tensor) is None], f"{t.place} (attention) mixes its channels")


LAYER_RULES: dict[Any, Callable[..., Tensor | None]] = {
    torch.conv1d: _convolution,
    torch.conv2d: _convolution,
    torch.conv3d: _convolution,
    torch.conv_transpose1d: _transposed,
    torch.conv_transpose2d: _transposed,
    torch.conv_transpose3d: _transposed,
    functional.linear: _linear,
    functional.batch_norm: _per_channel_norm,
    functional.instance_norm: _per_channel_norm,
    torch.batch_norm: _torch_batch_norm,
    functional.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
    functional.group_norm: _group_norm,
    torch.group_norm: _group_norm,
    functional.scaled_dot_product_attention: _attention,
    functional.multi_head_attention_forward: _attention,
    torch._native_multi_head_attention: _attention,
}
