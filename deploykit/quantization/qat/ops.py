"""The ONNX operators of picture networks in PyTorch, differentiable: what fake quantization trains through.

Each function takes the node's attributes and its inputs (None where one is left out) and returns its first output, or
a tuple of outputs. Integer tensors of shapes stay on the CPU, as PyTorch wants them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from deploykit.base.errors import BadInput

Attributes = Mapping[str, Any]
Inputs = Sequence[Any]
Function = Callable[[Attributes, Inputs], Any]


def convolution(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Conv: x [N, C, H, W] and weight [O, C/groups, kh, kw] → [N, O, H', W']."""
    pads = attributes.get("pads")
    x, padding = _padded(x, pads, weight.dim() - 2, 0.0)
    dims = weight.dim() - 2
    return torch.convolution(
        x,
        weight,
        bias,
        list(attributes.get("strides") or [1] * dims),
        padding,
        list(attributes.get("dilations") or [1] * dims),
        False,
        [0] * dims,
        int(attributes.get("group", 1)),
    )


def product(op_type: str, attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Gemm (alpha and beta as given) or MatMul of two tensors."""
    if op_type == "MatMul":
        return torch.matmul(x, weight)
    left = x.t() if attributes.get("transA", 0) else x
    right = weight.t() if attributes.get("transB", 0) else weight
    out = left @ right * float(attributes.get("alpha", 1.0))
    return out if bias is None else out + bias * float(attributes.get("beta", 1.0))


def _padded(x: Tensor, pads: Sequence[int] | None, dims: int, filler: float) -> tuple[Tensor, list[int]]:
    """``x`` padded where the pads differ between begin and end, and the symmetric padding that is left to do."""
    if not pads:
        return x, [0] * dims
    begin, end = list(pads[:dims]), list(pads[dims:])
    if begin == end:
        return x, begin
    pairs = [size for pair in zip(reversed(begin), reversed(end), strict=True) for size in pair]
    return functional.pad(x, pairs, value=filler), [0] * dims


def _max_pool(attributes: Attributes, inputs: Inputs) -> Tensor:
    kernel = list(attributes["kernel_shape"])
    x, padding = _padded(inputs[0], attributes.get("pads"), len(kernel), -math.inf)
    strides = list(attributes.get("strides") or [1] * len(kernel))
    dilations = list(attributes.get("dilations") or [1] * len(kernel))
    return functional.max_pool2d(x, kernel, strides, padding, dilations, ceil_mode=bool(attributes.get("ceil_mode", 0)))


def _average_pool(attributes: Attributes, inputs: Inputs) -> Tensor:
    kernel = list(attributes["kernel_shape"])
    counted = bool(attributes.get("count_include_pad", 0))
    pads = list(attributes.get("pads") or [0] * 2 * len(kernel))
    if pads[: len(kernel)] != pads[len(kernel) :] and not counted:
        raise BadInput("AveragePool with unequal pads cannot be trained through", got=pads)
    x, padding = _padded(inputs[0], pads, len(kernel), 0.0)
    strides = list(attributes.get("strides") or [1] * len(kernel))
    ceil = bool(attributes.get("ceil_mode", 0))
    return functional.avg_pool2d(x, kernel, strides, padding, ceil_mode=ceil, count_include_pad=counted)


def _clip(attributes: Attributes, inputs: Inputs) -> Tensor:
    low = inputs[1] if len(inputs) > 1 else attributes.get("min")
    high = inputs[2] if len(inputs) > 2 else attributes.get("max")
    x: Tensor = inputs[0]
    bounds = [None if one is None else float(one) for one in (low, high)]
    return x if bounds == [None, None] else torch.clamp(x, *bounds)


def _hard_sigmoid(attributes: Attributes, inputs: Inputs) -> Tensor:
    alpha, beta = float(attributes.get("alpha", 0.2)), float(attributes.get("beta", 0.5))
    return torch.clamp(inputs[0] * (1 / 6 if abs(alpha - 1 / 6) < 1e-6 else alpha) + beta, 0, 1)


def _batch_norm(attributes: Attributes, inputs: Inputs) -> Tensor:
    x, gamma, beta, mean, variance = inputs[:5]
    return functional.batch_norm(x, mean, variance, gamma, beta, eps=float(attributes.get("epsilon", 1e-5)))


def _layer_norm(attributes: Attributes, inputs: Inputs) -> Tensor:
    x, weight, bias = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None
    axis = int(attributes.get("axis", -1)) % x.dim()
    return functional.layer_norm(x, x.shape[axis:], weight, bias, float(attributes.get("epsilon", 1e-5)))


def _axes(attributes: Attributes, inputs: Inputs) -> list[int]:
    given = inputs[1].tolist() if len(inputs) > 1 and inputs[1] is not None else attributes.get("axes")
    return [] if given is None else [int(one) for one in given]


def _reduce(function: Callable[..., Tensor]) -> Function:
    def run(attributes: Attributes, inputs: Inputs) -> Tensor:
        axes = _axes(attributes, inputs)
        if not axes and attributes.get("noop_with_empty_axes", 0):
            return inputs[0]
        keep = bool(attributes.get("keepdims", 1))
        return function(inputs[0], dim=axes or list(range(inputs[0].dim())), keepdim=keep)

    return run


def _reshape(attributes: Attributes, inputs: Inputs) -> Tensor:
    x, shape = inputs[0], [int(one) for one in inputs[1]]
    if not attributes.get("allowzero", 0):
        shape = [x.shape[i] if one == 0 else one for i, one in enumerate(shape)]
    return x.reshape(shape)


def _squeeze(attributes: Attributes, inputs: Inputs) -> Tensor:
    x, axes = inputs[0], _axes(attributes, inputs)
    return x.squeeze(axes) if axes else x.squeeze()


def _unsqueeze(attributes: Attributes, inputs: Inputs) -> Tensor:
    x: Tensor = inputs[0]
    axes = _axes(attributes, inputs)
    for axis in sorted(one % (x.dim() + len(axes)) for one in axes):
        x = x.unsqueeze(axis)
    return x


def _slice(attributes: Attributes, inputs: Inputs) -> Tensor:
    x: Tensor = inputs[0]
    starts, ends = inputs[1].tolist(), inputs[2].tolist()
    axes = inputs[3].tolist() if len(inputs) > 3 and inputs[3] is not None else list(range(len(starts)))
    steps = inputs[4].tolist() if len(inputs) > 4 and inputs[4] is not None else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index = torch.arange(*slice(start, end, step).indices(x.shape[axis]), device=x.device)
        x = x.index_select(axis, index)
    return x


def _split(attributes: Attributes, inputs: Inputs) -> tuple[Tensor, ...]:
    x, axis = inputs[0], int(attributes.get("axis", 0))
    if len(inputs) > 1 and inputs[1] is not None:
        return tuple(torch.split(x, inputs[1].tolist(), axis))
    return tuple(torch.chunk(x, int(attributes["num_outputs"]), axis))


def _pad(attributes: Attributes, inputs: Inputs) -> Tensor:
    mode = attributes.get("mode", "constant")
    if mode != "constant" or (len(inputs) > 3 and inputs[3] is not None):
        raise BadInput("Pad other than with a constant on all axes cannot be trained through", got=mode)
    filler = float(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else 0.0
    pads = inputs[1].tolist()
    half = len(pads) // 2
    pairs = [pads[axis + part * half] for axis in reversed(range(half)) for part in (0, 1)]
    return functional.pad(inputs[0], pairs, value=filler)


def _resize(attributes: Attributes, inputs: Inputs) -> Tensor:
    x = inputs[0]
    sizes = inputs[3].tolist()[2:] if len(inputs) > 3 and inputs[3] is not None else None
    if sizes is None:
        sizes = [math.floor(size * scale) for size, scale in zip(x.shape[2:], inputs[2].tolist()[2:], strict=True)]
    mode, where = attributes.get("mode", "nearest"), attributes.get("coordinate_transformation_mode", "half_pixel")
    if mode == "nearest" and where == "asymmetric" and attributes.get("nearest_mode") == "floor":
        return functional.interpolate(x, sizes, mode="nearest")
    if mode == "linear" and where in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        return functional.interpolate(x, sizes, mode="bilinear", align_corners=where == "align_corners")
    raise BadInput("this kind of Resize cannot be trained through", got=f"{mode}, {where}")


def _gather(attributes: Attributes, inputs: Inputs) -> Tensor:
    x, index = inputs[0], inputs[1]
    axis = int(attributes.get("axis", 0)) % max(x.dim(), 1)
    flat = x.index_select(axis, index.reshape(-1).to(x.device))
    return flat.reshape([*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]])


def _cast(attributes: Attributes, inputs: Inputs) -> Tensor:
    kinds = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 11: torch.float64}
    to = int(attributes["to"])
    if to not in kinds:
        raise BadInput("a cast that cannot be trained through", got=f"ONNX type {to}")
    return inputs[0].to(kinds[to])


def _shape(attributes: Attributes, inputs: Inputs) -> Tensor:
    sizes = list(inputs[0].shape)[int(attributes.get("start", 0)) : attributes.get("end")]
    return torch.tensor(sizes, dtype=torch.int64)


def _variadic(function: Callable[[Any, Any], Any]) -> Function:
    def run(attributes: Attributes, inputs: Inputs) -> Any:
        found = inputs[0]
        for other in inputs[1:]:
            found = function(found, other)
        return found

    return run


OPERATORS: dict[str, Function] = {
    "Abs": lambda a, i: torch.abs(i[0]),
    "Add": lambda a, i: i[0] + i[1],
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda a, i: torch.cat(list(i), dim=int(a["axis"])),
    "Conv": lambda a, i: convolution(a, i[0], i[1], i[2] if len(i) > 2 else None),
    "Div": lambda a, i: torch.div(i[0], i[1], rounding_mode=None if i[0].is_floating_point() else "floor"),
    "Elu": lambda a, i: functional.elu(i[0], float(a.get("alpha", 1.0))),
    "Erf": lambda a, i: torch.erf(i[0]),
    "Exp": lambda a, i: torch.exp(i[0]),
    "Expand": lambda a, i: i[0] * torch.ones([int(one) for one in i[1]], dtype=i[0].dtype, device=i[0].device),
    "Flatten": lambda a, i: i[0].reshape(math.prod(i[0].shape[: int(a.get("axis", 1))]), -1),
    "Gather": _gather,
    "Gelu": lambda a, i: functional.gelu(i[0], approximate=a.get("approximate", "none")),
    "Gemm": lambda a, i: product("Gemm", a, i[0], i[1], i[2] if len(i) > 2 else None),
    "GlobalAveragePool": lambda a, i: i[0].mean(dim=(2, 3), keepdim=True),
    "GlobalMaxPool": lambda a, i: i[0].amax(dim=(2, 3), keepdim=True),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda a, i: functional.hardswish(i[0]),
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda a, i: functional.leaky_relu(i[0], float(a.get("alpha", 0.01))),
    "MatMul": lambda a, i: torch.matmul(i[0], i[1]),
    "Max": _variadic(torch.maximum),
    "MaxPool": _max_pool,
    "Min": _variadic(torch.minimum),
    "Mul": lambda a, i: i[0] * i[1],
    "Neg": lambda a, i: -i[0],
    "PRelu": lambda a, i: torch.where(i[0] >= 0, i[0], i[0] * i[1]),
    "Pad": _pad,
    "Pow": lambda a, i: torch.pow(i[0], i[1]),
    "Reciprocal": lambda a, i: torch.reciprocal(i[0]),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "Relu": lambda a, i: functional.relu(i[0]),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Sigmoid": lambda a, i: torch.sigmoid(i[0]),
    "Slice": _slice,
    "Softmax": lambda a, i: torch.softmax(i[0], dim=int(a.get("axis", -1))),
    "Softplus": lambda a, i: functional.softplus(i[0]),
    "Split": _split,
    "Sqrt": lambda a, i: torch.sqrt(i[0]),
    "Squeeze": _squeeze,
    "Sub": lambda a, i: i[0] - i[1],
    "Tanh": lambda a, i: torch.tanh(i[0]),
    "Transpose": lambda a, i: i[0].permute(*a.get("perm", range(i[0].dim())[::-1])),
    "Unsqueeze": _unsqueeze,
}


def check_operators(op_types: Sequence[str]) -> None:
    """Refuse a graph with an operator that is not known here.

    Raises:
        BadInput: the operators are named.
    """
    missing = sorted({one for one in op_types if one not in OPERATORS})
    if missing:
        raise BadInput(
            "the network has operators that cannot be trained through",
            got=", ".join(missing),
            expected="operators of picture networks",
            fix="Quantize it after training: leave --method qat out.",
        )
