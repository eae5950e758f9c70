"""Parameters and multiply-accumulates, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deploykit.base.errors import BadInput
from deploykit.models.module_outputs import input_channels

COUNTED = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(nn.Linear, nn.MultiheadAttention),
)
"""Layers whose multiply-accumulates count."""


@dataclass(frozen=True)
class LayerCount:
    """One layer: its tensor of outputs has ``out_shape`` (batch of 1)."""

    name: str
    type: str
    params: int
    macs: int
    out_shape: tuple[int, ...]


@dataclass(frozen=True)
class Counts:
    """The counts of one network for one picture.

    ``params``: all parameters. ``macs``: multiply-accumulates of convolutions, linear layers and attention;
    element-wise work is not counted. ``layers``: in the order in which they ran.
    """

    params: int
    macs: int
    layers: tuple[LayerCount, ...]


def count(module: nn.Module, size: tuple[int, int], channels: int | None = None) -> Counts:
    """Count the parameters and MACs of ``module`` for one image of ``size`` (height, width in pixels).

    ``channels``: of the image; None: those of its first convolution.

    The forward pass runs on the meta device, without arithmetic, where the network allows it.

    Raises:
        BadInput: the network does not run at this size.
    """
    layers: list[LayerCount] = []
    handles = [
        layer.register_forward_hook(_hook(name, layers))
        for name, layer in module.named_modules()
        if isinstance(layer, COUNTED)
    ]
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            _run(module, (channels or input_channels(module), *size), layers)
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        raise BadInput(f"the network does not run on images of {size[0]}×{size[1]} pixels: {error}") from error
    finally:
        module.train(training)
        for handle in handles:
            handle.remove()
    params = sum(parameter.numel() for parameter in module.parameters())
    return Counts(params, sum(layer.macs for layer in layers), tuple(layers))


def _run(module: nn.Module, shape: tuple[int, int, int], layers: list[LayerCount]) -> None:
    tensors = {  # of each module once: one that has two names would keep what it is called with
        f"{name}.{leaf}".removeprefix("."): tensor
        for name, one in module.named_modules()
        for leaf, tensor in [*one.named_parameters(recurse=False), *one.named_buffers(recurse=False)]
    }
    meta = {name: tensor.to("meta") for name, tensor in tensors.items()}
    try:
        torch.func.functional_call(module, meta, (torch.empty(1, *shape, device="meta"),), tie_weights=False)
    except (RuntimeError, NotImplementedError, TypeError):  # values are looked at, or tensors kept outside buffers
        layers.clear()
        device = next(iter(tensors.values())).device if tensors else torch.device("cpu")
        module(torch.zeros(1, *shape, device=device))


def _hook(name: str, layers: list[LayerCount]):  # type: ignore[no-untyped-def]
    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
        first = output[0] if isinstance(output, tuple) else output
        params = sum(parameter.numel() for parameter in layer.parameters())
        layers.append(LayerCount(name, type(layer).__name__, params, _macs(layer, inputs, first), tuple(first.shape)))

    return note


def _macs(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    if isinstance(layer, nn.Linear):
        return output.numel() * layer.in_features
    if isinstance(layer, nn.MultiheadAttention):  # its projections run inside, unseen by hooks
        tokens, width = output.numel() // layer.embed_dim, layer.embed_dim
        return tokens * width * (4 * width + 2 * tokens)
    weight = layer.weight
    assert isinstance(weight, Tensor)
    # a weight of a transposed convolution is [inputs, outputs, …]: every input value meets all that it can
    transposed = isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
    return (inputs[0] if transposed else output).numel() * weight[0].numel()
