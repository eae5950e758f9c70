"""One convolution or matrix product with rounded weights and its BatchNorm folded in.

While BatchNorm still learns its statistics, the folded weight is rounded, then divided by the folding factor again, so
that the batch's statistics can normalise the output (Krishnamoorthi 2018, "Quantizing deep convolutional networks for
efficient inference", section 3.2.2). Afterwards the running statistics are used, as in the engine.

Fake quantization with step sizes that can be learned.

``fake(x) = clip(round(x / s), low, high) · s`` with the straight-through gradient for ``x`` and, for the step ``s``,
that of LSQ (Esser et al. 2020, "Learned Step Size Quantization", section 2.1): ``round(x/s) − x/s`` inside the range,
``low`` or ``high`` beyond it, scaled by ``1/√(n · high)`` (section 2.2).

Steps are held as ``s = s₀ · exp(RATE · θ)``: they stay positive, and one learning rate serves weights and steps of any
size. The zero point is a fixed integer, so a range that starts at 0 keeps doing so and stays a Relu.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from deploykit.models.batch_norm import BatchNorm
from deploykit.quantization.qat.binding import Bound, folded
from deploykit.quantization.qat.ops import convolution, product
from deploykit.quantization.qat.program import Step
from deploykit.quantization.schemes import INT32_MAX, TINY, Affine, channel_scales

RATE = 20.0
SHRINK = np.linspace(0.3, 1.0, 36)


class Rounded(torch.autograd.Function):
    """``clip(round(x / s), low, high) · s``; ``s`` is broadcast, ``low`` and ``high`` are integers that hold 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, low: int, high: int, gradient_scale: float) -> Tensor:
        """The rounded ``x``."""
        out = (x / step).round_().clamp_(low, high).mul_(step)
        ctx.save_for_backward(x, step, out)
        ctx.bounds = low, high, gradient_scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """The gradients of ``x`` and ``step``: with the mask m of values inside, ``g·m`` and ``Σ (g·out − g·m·x) / s``."""
        [gradient] = gradients
        x, step, out = ctx.saved_tensors
        low, high, scale = ctx.bounds
        inside = torch.clamp(x, low * step, high * step).eq_(x)
        of_x = inside.mul_(gradient)
        of_step = None
        if ctx.needs_input_grad[1] and step.numel() == 1:
            of_step = ((_dot(gradient, out) - _dot(of_x, x)) * (scale / step)).reshape(step.shape)
        elif ctx.needs_input_grad[1]:
            of_step = (gradient * out).sub_(of_x * x).sum_to_size(step.shape) * (scale / step)
        return of_x, of_step, None, None, None


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """The sum of products, without a tensor of them where both lie in memory alike."""
    for layout in (torch.contiguous_format, torch.channels_last) if a.dim() == 4 else (torch.contiguous_format,):
        if a.is_contiguous(memory_format=layout) and b.is_contiguous(memory_format=layout):
            order = (0, 2, 3, 1) if layout is torch.channels_last else tuple(range(a.dim()))
            return torch.dot(a.permute(order).reshape(-1), b.permute(order).reshape(-1))
    return (a * b).sum()


def fake(x: Tensor, step: Tensor, low: int, high: int, features: int) -> Tensor:
    """Fake-quantize ``x``.

    ``x``: any shape. ``step``: broadcastable to it, positive. ``low``: least integer counted from the zero point.
    ``high``: largest integer, as ``low``. ``features``: values that share one step (of an activation: in one picture),
    for LSQ's gradient scale.
    """
    return Rounded.apply(x, step, low, high, (features * max(high, 1)) ** -0.5)


def grown(start: Tensor, theta: Tensor) -> Tensor:
    """The steps ``start · exp(RATE · θ)``; exactly ``start`` where θ is 0."""
    return start * torch.exp(RATE * theta)


def bounds_of(affine: Affine) -> tuple[int, int]:
    """The least and the largest integer, counted from the zero point."""
    return affine.scheme.qmin - affine.zero_point, affine.scheme.qmax - affine.zero_point


def weight_limits(weight: np.ndarray, axis: int, bits: int) -> np.ndarray:
    """What each output channel's largest integer should mean, float32 [C].

    With 8 and 7 bits that is the largest weight. With fewer, clipping the few largest pays: the limit with the least
    squared error among ``SHRINK`` times the largest. A dead channel gets the layer's mean, not zero.
    """
    largest = 2 ** (bits - 1) - 1
    limits = channel_scales(weight, axis, bits).astype(np.float64) * largest
    if bits >= 7:
        return limits.astype(np.float32)
    flat = np.moveaxis(weight, axis, 0).reshape(len(limits), -1).astype(np.float64)
    errors = []
    for shrink in SHRINK:
        step = limits[:, None] * shrink / largest
        errors.append(((np.clip(np.rint(flat / step), -largest, largest) * step - flat) ** 2).sum(axis=1))
    return (limits * SHRINK[np.argmin(errors, axis=0)]).astype(np.float32)


LEAST_FACTOR = 1e-8


class Layer(nn.Module):
    """A Conv, Gemm or MatMul.

    Args:
        step: the node.
        bound: its tensors in the network; None: ``constants`` are its weights, which are not trained.
        constants: weight and bias in the graph.
        bits: width of the weights; None: they stay float.
        learned: the weights' steps are parameters; else those of their largest values.
        limits: what each channel's largest integer means where that is known already.
        integer_bias: the bias is rounded to the step of the integer sum.
    """

    def __init__(
        self,
        step: Step,
        bound: Bound | None,
        constants: list[np.ndarray],
        *,
        bits: int | None = None,
        learned: bool = True,
        limits: np.ndarray | None = None,
        integer_bias: bool = True,
    ) -> None:
        super().__init__()
        self.step, self.bound, self.integer_bias = step, bound, integer_bias
        self.largest = None if bits is None else 2 ** (bits - 1) - 1
        weight = constants[0]
        first = step.op_type == "Conv" or bool(step.attributes.get("transB", 0))
        self.axis = 0 if first else weight.ndim - 1
        self.learned = learned and bits is not None
        if bound is None:
            self.register_buffer("weight", torch.from_numpy(weight), persistent=False)
            self.register_buffer("bias", torch.from_numpy(constants[1]) if constants[1:] else None, persistent=False)
        if self.learned:
            assert bits is not None
            start = weight_limits(weight, self.axis, bits) if limits is None else limits
            self.register_buffer("start", torch.from_numpy(np.asarray(start, np.float32)))
            self.theta = nn.Parameter(torch.zeros(len(start)))

    def limits(self, net: nn.Module) -> Tensor:
        """What each channel's largest integer means, float [C]."""
        if self.learned:
            return grown(self.start, self.theta)  # type: ignore[arg-type]
        weight = self._tensors(net)[0].detach()
        limit = weight.abs().amax(dim=[i for i in range(weight.dim()) if i != self.axis])
        alive = limit > TINY
        filler = limit[alive].mean() if bool(alive.any()) else torch.ones_like(limit[0])
        return torch.where(alive, limit, filler)

    def forward(self, net: nn.Module, x: Tensor, input_step: Tensor | None, batch_statistics: bool) -> Tensor:
        """The layer's output.

        ``net``: that holds the tensors. ``x``: its input, rounded where the layer runs on integers. ``input_step``: of
        ``x``, or None where it is float. ``batch_statistics``: BatchNorm normalises by the batch and learns its running
        statistics.
        """
        weight, bias, factor = self._tensors(net)
        if self.largest is not None:
            step = self._step(net, bias, input_step)
            shape = [1] * weight.dim()
            shape[self.axis] = -1
            features = weight.numel() // step.numel()
            weight = fake(weight, step.reshape(shape), -self.largest, self.largest, features)
            if bias is not None and self.integer_bias and input_step is not None:
                unit = (step * input_step).detach()
                bias = bias + (torch.round(bias / unit) * unit - bias).detach()
        if batch_statistics and factor is not None:
            return self._normalised(net, x, weight, factor)
        return self._compute(x, weight, bias)

    def _tensors(self, net: nn.Module) -> tuple[Tensor, Tensor | None, Tensor | None]:
        if self.bound is None:
            return self.weight, self.bias, None  # type: ignore[return-value]
        return folded(net, self.bound)

    def _step(self, net: nn.Module, bias: Tensor | None, input_step: Tensor | None) -> Tensor:
        assert self.largest is not None
        step = self.limits(net) / self.largest
        if bias is not None and self.integer_bias and input_step is not None:
            least = bias.detach().abs() / (input_step.detach() * (INT32_MAX / 4))
            step = torch.maximum(step, least)
        return step

    def _compute(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.step.op_type == "Conv":
            return convolution(self.step.attributes, x, weight, bias)
        return product(self.step.op_type, self.step.attributes, x, weight, bias)

    def _normalised(self, net: nn.Module, x: Tensor, weight: Tensor, factor: Tensor) -> Tensor:
        assert self.bound is not None
        assert self.bound.norm is not None
        norm, own = net.get_submodule(self.bound.norm), net.get_submodule(self.bound.module).bias
        assert isinstance(norm, BatchNorm)
        assert own is None or isinstance(own, torch.Tensor)
        safe = torch.where(factor.abs() < LEAST_FACTOR, torch.full_like(factor, LEAST_FACTOR), factor)
        y = self._compute(x, weight / safe.reshape(-1, *[1] * (weight.dim() - 1)), own)
        momentum = 0.1 if norm.momentum is None else norm.momentum
        return functional.batch_norm(
            y, norm.running_mean, norm.running_var, norm.weight, norm.bias, True, momentum, norm.eps
        )
