"""Fake quantization with step sizes that can be learned.

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
from torch import Tensor

from deploykit.quantization.schemes import Affine

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

    Args:
        x: any shape.
        step: broadcastable to it, positive.
        low: least integer counted from the zero point.
        high: largest integer, as ``low``.
        features: values that share one step (of an activation: in one picture), for LSQ's gradient scale.
    """
    rounded: Tensor = Rounded.apply(x, step, low, high, (features * max(high, 1)) ** -0.5)
    return rounded


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
    from deploykit.quantization.weights import channel_scales

    largest = 2 ** (bits - 1) - 1
    limits = channel_scales(weight, axis, bits).astype(np.float64) * largest
    if bits >= 7:
        return limits.astype(np.float32)
    flat = np.moveaxis(weight, axis, 0).reshape(len(limits), -1).astype(np.float64)
    errors = []
    for shrink in SHRINK:
        step = limits[:, None] * shrink / largest
        errors.append(((np.clip(np.rint(flat / step), -largest, largest) * step - flat) ** 2).sum(axis=1))
    best: np.ndarray = (limits * SHRINK[np.argmin(errors, axis=0)]).astype(np.float32)
    return best
