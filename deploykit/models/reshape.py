"""Give a stock network the shapes of a pruned one, so that its tensors load strictly without unpickling a module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from deploykit.base.errors import BadInput

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.InstanceNorm2d)


def shape_changes(module: nn.Module, stock: nn.Module) -> dict[str, list[int]]:
    """Tensor name → shape in ``module`` where it differs from ``stock``'s: what ``Arch.shapes`` holds.

    Raises:
        BadInput: the two do not have the same tensors.
    """
    ours, theirs = module.state_dict(), stock.state_dict()
    if ours.keys() != theirs.keys():
        odd = sorted(ours.keys() ^ theirs.keys())
        raise BadInput("the network does not have the tensors of its architecture", got=", ".join(odd[:3]))
    return {name: list(tensor.shape) for name, tensor in ours.items() if tensor.shape != theirs[name].shape}


def reshape(module: nn.Module, shapes: Mapping[str, Sequence[int]]) -> nn.Module:
    """Resize parameters and buffers to ``shapes`` in place, and the layers' attributes with them.

    The new tensors are zero: load a state dict next. A depthwise convolution stays one (groups follow its channels);
    a grouped one keeps its groups, so that its inputs are ``weight.shape[1] · groups``. A GroupNorm keeps the channels of a group.

    ``shapes``: tensor name → new shape; names that already fit are left alone.

    Raises:
        BadInput: a name is not in the network, or the number of dimensions differs.
    """
    state = module.state_dict()
    for name, shape in shapes.items():
        if name not in state:
            raise BadInput(f"the architecture has no tensor {name}", fix="Is the file damaged?")
        if len(shape) != state[name].ndim:
            raise BadInput(f"the shape of {name}", got=list(shape), expected=f"{state[name].ndim} dimensions")
        if tuple(shape) != tuple(state[name].shape):
            place, _, leaf = name.rpartition(".")
            _resize(module.get_submodule(place), leaf, tuple(shape))
    return module


def _resize(layer: nn.Module, leaf: str, shape: tuple[int, ...]) -> None:
    old = getattr(layer, leaf)
    if leaf == "weight":
        _follow(layer, shape)
    new = torch.zeros(shape, dtype=old.dtype, device=old.device)
    if isinstance(old, nn.Parameter):
        setattr(layer, leaf, nn.Parameter(new, requires_grad=old.requires_grad))
    else:
        setattr(layer, leaf, new)


def _follow(layer: nn.Module, shape: tuple[int, ...]) -> None:
    if isinstance(layer, nn.Conv2d | nn.Conv1d | nn.Conv3d):
        if layer.groups > 1 and layer.in_channels == layer.groups:
            layer.groups = shape[0] // (layer.out_channels // layer.groups)
        layer.out_channels, layer.in_channels = shape[0], shape[1] * layer.groups
    elif isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        if layer.groups > 1 and layer.in_channels == layer.groups:
            layer.groups = shape[0]
        layer.in_channels, layer.out_channels = shape[0], shape[1] * layer.groups
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = shape
    elif isinstance(layer, _NORMS):
        layer.num_features = shape[0]
    elif isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = shape
    elif isinstance(layer, nn.GroupNorm):
        layer.num_groups = max(1, layer.num_groups * shape[0] // layer.num_channels)
        layer.num_channels = shape[0]
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = shape[0]
