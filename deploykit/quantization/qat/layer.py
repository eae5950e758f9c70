"""One convolution or matrix product with rounded weights and its BatchNorm folded in.

While BatchNorm still learns its statistics, the folded weight is rounded, then divided by the folding factor again, so
that the batch's statistics can normalise the output (Krishnamoorthi 2018, "Quantizing deep convolutional networks for
efficient inference", section 3.2.2). Afterwards the running statistics are used, as in the engine.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from deploykit.quantization.qat.binding import Bound, folded
from deploykit.quantization.qat.ops import convolution, product
from deploykit.quantization.qat.program import Step
from deploykit.quantization.qat.qat_scales import fake, grown, weight_limits
from deploykit.quantization.schemes import TINY
from deploykit.quantization.weights import INT32_MAX

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

        Args:
            net: that holds the tensors.
            x: its input, rounded where the layer runs on integers.
            input_step: of ``x``, or None where it is float.
            batch_statistics: BatchNorm normalises by the batch and learns its running statistics.
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
        assert isinstance(norm, _BatchNorm)
        assert own is None or isinstance(own, torch.Tensor)
        safe = torch.where(factor.abs() < LEAST_FACTOR, torch.full_like(factor, LEAST_FACTOR), factor)
        y = self._compute(x, weight / safe.reshape(-1, *[1] * (weight.dim() - 1)), own)
        momentum = 0.1 if norm.momentum is None else norm.momentum
        return functional.batch_norm(
            y, norm.running_mean, norm.running_var, norm.weight, norm.bias, True, momentum, norm.eps
        )
