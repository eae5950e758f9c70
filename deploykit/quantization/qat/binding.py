"""Where the weights of an exported graph live in the network it was exported from.

The graph holds BatchNorm folded into the layers before it. Training changes the network's own tensors, so each layer of
the graph is bound to a module and, where one was folded in, to the BatchNorm that reads that module's output. A pair is
believed only if folding it gives the graph's numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from deploykit.models.batch_norm import BatchNorm
from deploykit.quantization.qdq.graph import constant
from deploykit.quantization.qdq.placement_ort_cpu import ANCHORS

NEAR = 1e-3


@dataclass(frozen=True)
class Bound:
    """One layer's tensors.

    ``module``: name of the Conv or Linear. ``norm``: name of the BatchNorm folded into it, or None. ``transposed``: the
    graph holds the weight's transpose.
    """

    module: str
    norm: str | None
    transposed: bool = False


def bind(graph: ir.Graph, net: nn.Module, example: Tensor, module_of: Callable[[str], str]) -> dict[str, Bound]:
    """Node name → tensors, for each Conv, Gemm and MatMul of ``graph`` whose weights are the network's.

    ``graph``: prepared float graph of ``net`` as it is now. ``net``: in eval mode, on the CPU. ``example``: an input,
    float [N, 3, H, W]. ``module_of``: node name → name of the module that it came from.
    """
    norms = _followers(net, example)
    found: dict[str, Bound] = {}
    for node in graph:
        weight = constant(node.inputs[1]) if node.op_type in ANCHORS else None
        name = module_of(node.name or "")
        if weight is None or not name:
            continue
        bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
        for norm in (*norms.get(name, ()), None):
            for transposed in (False, True) if weight.ndim == 2 else (False,):
                bound = Bound(name, norm, transposed)
                if (node.name or "") not in found and _same(net, bound, weight, bias):
                    found[node.name or ""] = bound
    return found


def folded(net: nn.Module, bound: Bound) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Weight and bias as the graph holds them, and the factor of each output channel (None without BatchNorm).

    With the running statistics μ, σ² of the BatchNorm: ``w · γ/√(σ²+ε)`` and ``(b − μ) · γ/√(σ²+ε) + β``.
    """
    layer = net.get_submodule(bound.module)
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, torch.Tensor)
    assert bias is None or isinstance(bias, torch.Tensor)
    if bound.norm is None:
        return (weight.t() if bound.transposed else weight), bias, None
    norm = net.get_submodule(bound.norm)
    assert isinstance(norm, BatchNorm)
    assert norm.running_var is not None
    assert norm.running_mean is not None
    mean, variance = norm.running_mean.clone(), norm.running_var.clone()  # a training step changes them in place
    factor = torch.rsqrt(variance + norm.eps)
    if norm.weight is not None:
        factor = factor * norm.weight
    shifted = -mean * factor if bias is None else (bias - mean) * factor
    if norm.bias is not None:
        shifted = shifted + norm.bias
    return weight * factor.reshape(-1, *[1] * (weight.dim() - 1)), shifted, factor


def write_back(net: nn.Module, bound: Bound, weight: np.ndarray, bias: np.ndarray) -> None:
    """Change the network's tensors so that folding gives ``weight`` and ``bias``.

    The folding factor and the running statistics stay as they are; those are no longer what a batch would show.

    ``net``: that holds the tensors, on the CPU. ``weight``: as the graph holds it. ``bias``: as the graph holds it,
    float [C].
    """
    layer, wanted, shift = net.get_submodule(bound.module), torch.tensor(weight), torch.tensor(bias)
    with torch.no_grad():
        _, _, factor = folded(net, bound)
        own, plain = layer.weight, layer.bias
        assert isinstance(own, torch.Tensor)
        if factor is None:
            own.copy_(wanted.t() if bound.transposed else wanted)
            if isinstance(plain, torch.Tensor):
                plain.copy_(shift)
            return
        assert bound.norm is not None
        norm = net.get_submodule(bound.norm)
        assert isinstance(norm, BatchNorm)
        alive = factor != 0
        shape = [-1, *[1] * (own.dim() - 1)]
        divided = wanted / torch.where(alive, factor, torch.ones_like(factor)).reshape(shape)
        own.copy_(torch.where(alive.reshape(shape), divided, own))
        if norm.bias is not None:
            assert norm.running_mean is not None
            before = norm.running_mean - plain if isinstance(plain, torch.Tensor) else norm.running_mean
            norm.bias.copy_(shift + before * factor)


def _same(net: nn.Module, bound: Bound, weight: np.ndarray, bias: np.ndarray | None) -> bool:
    try:
        layer = net.get_submodule(bound.module)
    except AttributeError:
        return False
    own = getattr(layer, "weight", None)
    if not isinstance(own, nn.Parameter) or not hasattr(layer, "bias"):
        return False
    if tuple(own.t().shape if bound.transposed else own.shape) != weight.shape:
        return False
    with torch.no_grad():
        mine, shift, _ = folded(net, bound)
    if not _near(mine.detach().numpy(), weight):
        return False
    given = np.zeros(1, np.float32) if bias is None else bias
    return _near(np.zeros_like(given) if shift is None else shift.detach().numpy(), given)


def _near(mine: np.ndarray, other: np.ndarray) -> bool:
    if mine.size != other.size and mine.any():
        return False
    room = NEAR * max(float(np.abs(other).max()), 1e-6)
    return bool(np.abs(mine - other).max() <= room)


def _followers(net: nn.Module, example: Tensor) -> dict[str, list[str]]:
    """Module name → names of the BatchNorms that read its output, seen in one run."""
    made: dict[int, str] = {}
    kept: list[Tensor] = []
    found: dict[str, list[str]] = {}

    def on_output(name: str, output: object) -> None:
        if isinstance(output, torch.Tensor):
            kept.append(output)  # else its address could be another tensor's later
            made[id(output)] = name

    def on_input(name: str, given: object) -> None:
        if (source := made.get(id(given))) is not None and name not in found.setdefault(source, []):
            found[source].append(name)

    with _hooked(net, on_output, on_input), torch.no_grad():
        net(example)
    return found


@contextmanager
def _hooked(
    net: nn.Module, on_output: Callable[[str, object], None], on_input: Callable[[str, object], None]
) -> Iterator[None]:
    handles = []
    for name, module in net.named_modules():
        if isinstance(module, BatchNorm):
            handles.append(module.register_forward_pre_hook(lambda _, given, name=name: on_input(name, given[0])))
        elif isinstance(getattr(module, "weight", None), nn.Parameter):
            handles.append(module.register_forward_hook(lambda _, __, output, name=name: on_output(name, output)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
