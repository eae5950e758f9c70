"""The weights of layers that lost inputs, by least squares: each is to give what it gave in the whole network.

For one layer with kept inputs X [rows, d] (patches of a convolution) and its own former outputs Y [rows, outputs], both taken from the
whole network at sampled positions, W minimises ‖Y − X·Wᵀ‖² + λ‖W − W₀‖² around the weights W₀ that pruning left:

    W = W₀ + (XᵀX + λI)⁻¹(XᵀY − XᵀX·W₀ᵀ),   λ = ridge · trace(XᵀX) / d

(He, Zhang, Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, section 3.1, and Luo, Wu, Lin, "ThiNet", ICCV
2017, section 3.2.3, with a ridge around W₀). X and Y are centred where the layer has a bias, which takes up the means, or feeds a
BatchNorm that is estimated anew. XᵀX and XᵀY are summed in float64 while images stream by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from deploykit.models.batch_norm import BatchNorm
from deploykit.models.device import beside
from deploykit.pruning.channel_graph import Graph
from deploykit.pruning.surgery import remaining

RIDGE = 0.1
ROWS = 8192
"""Sampled positions of a layer, at least; four for each of its inputs where that is more."""
WIDEST = 4608
"""Inputs (channels times kernel) of the largest layer that is solved for."""
AT_ONCE = 2**26
"""Numbers of XᵀX held at a time, 0.5 GiB: layers beyond wait for another pass over the images."""

Images = Callable[[], Iterable[np.ndarray]]


@dataclass(frozen=True)
class Reader:
    """A layer that lost inputs: int64 indices of its input and output channels that are left."""

    name: str
    inputs: Tensor
    outputs: Tensor
    kernel: int

    @property
    def width(self) -> int:
        """Numbers of one row of X."""
        return len(self.inputs) * self.kernel


class Moments:
    """Running sums over rows of X [n, d] and Y [n, m], in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.xx, self.xy, self.x, self.y = (torch.zeros(()) for _ in range(4))

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add rows."""
        x, y = x.double(), y.double()
        self.xx, self.xy = self.xx.to(x.device) + x.T @ x, self.xy.to(x.device) + x.T @ y
        self.x, self.y = self.x.to(x.device) + x.sum(0), self.y.to(x.device) + y.sum(0)
        self.count += len(x)

    def solve(self, start: Tensor, *, centred: bool) -> tuple[Tensor, Tensor]:
        """W [m, d] near ``start`` and the bias [m] that goes with it (of use only where ``centred``)."""
        xx, xy = self.xx, self.xy
        if centred:
            xx, xy = xx - torch.outer(self.x, self.x) / self.count, xy - torch.outer(self.x, self.y) / self.count
        ridge = RIDGE * xx.trace() / len(xx)
        factor = torch.linalg.cholesky(xx + ridge * torch.eye(len(xx), dtype=xx.dtype, device=xx.device))
        weight = start + torch.cholesky_solve(xy - xx @ start.T, factor).T
        return weight, (self.y - weight @ self.x) / self.count


def readers(module: nn.Module, graph: Graph, removed: np.ndarray) -> list[Reader]:
    """The convolutions and linear layers that read removed atoms (bool over atom ids) and can be solved for, in order.

    Grouped ones, those whose weight several layers share, and those that compute otherwise than their class stay as they are.
    """
    names = [name for name, _ in module.named_parameters(remove_duplicate=False)]
    tensors = [id(parameter) for _, parameter in module.named_parameters(remove_duplicate=False)]
    shared = {name for name, one in zip(names, tensors, strict=True) if tensors.count(one) > 1}
    found: dict[str, Reader] = {}
    for layer in graph.layers:
        running = module.get_submodule(layer.name)
        inputs, outputs = remaining(graph, removed, layer.inputs), remaining(graph, removed, layer.outputs)
        ordinary = isinstance(running, nn.Conv2d | nn.Linear) and type(running).forward in (
            nn.Conv2d.forward,
            nn.Linear.forward,
        )
        if layer.groups == 1 and layer.positions and ordinary and layer.tensor not in shared and not inputs.all():
            kept_in, kept_out = (torch.from_numpy(np.flatnonzero(one)) for one in (inputs, outputs))
            reader = Reader(layer.name, kept_in, kept_out, layer.kernel)
            if reader.width <= WIDEST:
                found[layer.name] = reader
    return list(found.values())


def reconstruct(
    whole: nn.Module, pruned: nn.Module, wanted: Sequence[Reader], images: Images, count: int, normed: set[str]
) -> None:
    """Give the layers ``wanted`` of ``pruned`` new weights, in place.

    ``whole``: before pruning; both in eval mode on one device. ``images``: gives batches of ``count`` prepared images,
    float32 [N, C, H, W], anew each time. ``normed``: layers whose means a BatchNorm takes off.
    """
    parts: list[list[Reader]] = [[]]
    for reader in wanted:
        if sum(one.width**2 for one in parts[-1]) + reader.width**2 > AT_ONCE and parts[-1]:
            parts.append([])
        parts[-1].append(reader)
    for part in parts:
        moments = _moments(whole, part, images, count)
        for reader in part:
            if moments[reader.name].count and float(moments[reader.name].xx.trace()) > 0:
                _solve(whole, pruned, reader, moments[reader.name], normed)


def _solve(whole: nn.Module, pruned: nn.Module, reader: Reader, moments: Moments, normed: set[str]) -> None:
    old, new = whole.get_submodule(reader.name), pruned.get_submodule(reader.name)
    assert isinstance(old, nn.Conv2d | nn.Linear)
    assert isinstance(new, nn.Conv2d | nn.Linear)
    start = old.weight.detach().cpu()[reader.outputs][:, reader.inputs].flatten(1).to(old.weight.device).double()
    weight, bias = moments.solve(start, centred=new.bias is not None or reader.name in normed)
    with torch.no_grad():
        new.weight.copy_(weight.reshape(new.weight.shape))
        if new.bias is not None:
            new.bias.copy_(bias)


def _moments(whole: nn.Module, part: Sequence[Reader], images: Images, count: int) -> dict[str, Moments]:
    found = {reader.name: Moments() for reader in part}
    batch = 0

    def note(reader: Reader) -> Any:
        wanted = math.ceil(max(ROWS, 4 * reader.width) / count)

        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if inputs:
                rows = _rows(layer, inputs[0], output, reader, torch.Generator().manual_seed(batch), wanted)
                found[reader.name].add(*rows)

        return hook

    with _hooked(whole, {reader.name: note(reader) for reader in part}), torch.inference_mode():
        for x in images():
            whole(beside(whole, x))
            batch += 1
    return found


@contextmanager
def _hooked(module: nn.Module, hooks: dict[str, Any]) -> Iterator[None]:
    handles = [module.get_submodule(name).register_forward_hook(hook) for name, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rows(
    layer: nn.Module, x: Tensor, y: Tensor, reader: Reader, draw: torch.Generator, wanted: int
) -> tuple[Tensor, Tensor]:
    """X [n, d] and Y [n, m] of one call, at ``wanted`` positions of each image at most."""
    kept_in, kept_out = reader.inputs.to(x.device), reader.outputs.to(x.device)
    if isinstance(layer, nn.Linear):
        x, y = (one.reshape(len(one), -1, one.shape[-1]) for one in (x, y))
        at = torch.randperm(x.shape[1], generator=draw)[:wanted].to(x.device)
        return x[:, at][..., kept_in].flatten(0, 1), y[:, at][..., kept_out].flatten(0, 1)
    assert isinstance(layer, nn.Conv2d)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = functional.pad(x[:, kept_in], layer._reversed_padding_repeated_twice, mode)
    height, width = y.shape[-2:]
    at = torch.randperm(height * width, generator=draw)[:wanted].to(x.device)
    starts = (at // width, at % width)
    rows, columns = (
        start[:, None] * stride + dilation * torch.arange(kernel, device=x.device)
        for start, stride, dilation, kernel in zip(starts, layer.stride, layer.dilation, layer.kernel_size, strict=True)
    )
    patches = x[:, :, rows[:, :, None], columns[:, None, :]]  # [N, channels, positions, kernel height, kernel width]
    return patches.transpose(1, 2).flatten(0, 1).flatten(1), y.flatten(2)[:, kept_out][:, :, at].transpose(
        1, 2
    ).flatten(0, 1)


def feeding_batch_norm(module: nn.Module, shape: tuple[int, int, int]) -> set[str]:
    """Names of the layers whose outputs go into a BatchNorm with running statistics as they are.

    ``module``: in eval mode. ``shape``: of an image, (channels, height, width).
    """
    outputs: dict[int, tuple[str, Tensor, int]] = {}
    found: set[str] = set()

    def made(name: str) -> Any:
        return lambda _, __, output: outputs.__setitem__(id(output), (name, output, output._version))

    def read(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        name, _, version = outputs.get(id(inputs[0]), ("", None, -1)) if inputs else ("", None, -1)
        if name and inputs[0]._version == version:  # else changed in place in between
            found.add(name)

    layers = {name: made(name) for name, one in module.named_modules() if isinstance(one, nn.Conv2d | nn.Linear)}
    norms = [one for one in module.modules() if isinstance(one, BatchNorm) and one.running_mean is not None]
    handles = [one.register_forward_pre_hook(read) for one in norms]
    with _hooked(module, layers), torch.no_grad():
        module(torch.zeros(2, *shape, device=next(module.parameters()).device))
    for handle in handles:
        handle.remove()
    return found
