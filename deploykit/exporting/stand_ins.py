"""Functions of PyTorch that its exporters write wrongly or not at all, written as others that they write rightly.

They stand in while a network is traced, and only where the exporters fail: the reference stays the network as it is.

* **ceil_mode** of a pool. PyTorch drops a last window that would start in the padding behind the input, ONNX keeps it.
  Along an axis where it is dropped the rest is the pool without ``ceil_mode``. Maxima and means over a rectangle are
  taken along one axis after the other, so the axes may differ.
* **divisor_override** d of an average over k numbers: mean · k / d, with zeros for what lies outside.
* **Antialiased resizing** by a factor or with ``align_corners`` is linear and separable: A · x · B, where A and B are what
  PyTorch makes of the unit matrix.
* **adaptive_max_pool2d** to a size that is no divisor: the maximum over gathered windows, the shorter ones filled up by
  repeating their last element.
* **output_padding** of a transposed convolution that is not below its stride, which ONNX Runtime refuses: the whole
  output, cut or filled with zeros, and then the bias.
* **rrelu** in eval mode is a leaky ReLU with the mean slope.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Size = int | tuple[int, int] | list[int]
Pool = Callable[[Tensor, tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int], bool], Tensor]


def _pair(value: Any) -> tuple[int, int]:
    first, second = (*value, *value)[:2] if isinstance(value, tuple | list) else (value, value)
    return int(first), int(second)


def _lengths(x: Tensor) -> tuple[int, int]:
    return int(x.shape[-2]), int(x.shape[-1])


def _windows(length: int, kernel: int, stride: int, padding: int, dilation: int) -> tuple[int, bool]:
    """How many windows ``ceil_mode`` makes along one axis, and whether PyTorch drops one that ONNX keeps."""
    room = length + 2 * padding - dilation * (kernel - 1) - 1
    up, down = -(-room // stride) + 1, room // stride + 1
    dropped = up > down and (up - 1) * stride >= length + padding
    return up - dropped, dropped


def _without_dropped(pool: Pool, x: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Tensor | None:
    """A pool with ``ceil_mode`` whose dropped windows are not asked for; None where none is dropped."""
    k, s, p, d = _pair(kernel), _pair(kernel if stride in (None, []) else stride), _pair(padding), _pair(dilation)
    dropped = [_windows(*one)[1] for one in zip(_lengths(x), k, s, p, d, strict=True)]
    if not any(dropped):
        return None
    if all(dropped):
        return pool(x, k, s, p, d, False)
    rows = pool(x, (k[0], 1), (s[0], 1), (p[0], 0), (d[0], 1), not dropped[0])
    return pool(rows, (1, k[1]), (1, s[1]), (0, p[1]), (1, d[1]), not dropped[1])


def max_pool2d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | None:
    """Where a window is dropped; with indices nothing is changed."""
    if not ceil_mode or return_indices:
        return None
    return _without_dropped(F.max_pool2d, input, kernel_size, stride, padding, dilation)


def avg_pool2d(
    input: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor | None:
    """Where a window is dropped, or another divisor asked for."""

    def pool(x: Tensor, k: Any, s: Any, p: Any, _: Any, ceil: bool) -> Tensor:
        return F.avg_pool2d(x, k, s, p, ceil, count_include_pad)

    if divisor_override is None:
        return _without_dropped(pool, input, kernel_size, stride, padding, 1) if ceil_mode else None
    k, s = _pair(kernel_size), _pair(kernel_size if stride in (None, []) else stride)
    beyond = [0, 0]
    if ceil_mode:
        for axis, (length, kernel, step, pad) in enumerate(zip(_lengths(input), k, s, _pair(padding), strict=True)):
            count, _ = _windows(length, kernel, step, pad, 1)
            beyond[axis] = max(0, (count - 1) * step + kernel - length - 2 * pad)
    (top, left), (bottom, right) = _pair(padding), beyond
    x = F.pad(input, (left, left + right, top, top + bottom)) if any((top, left, bottom, right)) else input
    return F.avg_pool2d(x, k, s) * (k[0] * k[1] / divisor_override)


def lp_pool2d(
    input: Tensor, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False
) -> Tensor | None:
    """Where a window is dropped: as PyTorch writes it, over the mean of powers."""
    means = avg_pool2d(input.pow(norm_type), kernel_size, stride, 0, ceil_mode)
    if means is None:
        return None
    k = _pair(kernel_size)
    return (torch.sign(means) * F.relu(torch.abs(means)) * (k[0] * k[1])).pow(1.0 / norm_type)


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Tensor | None:
    """Where the size is no divisor of the input's."""
    wanted = output_size if isinstance(output_size, tuple | list) else [output_size] * 2
    sizes = [int(length if one is None else one) for one, length in zip(wanted, _lengths(input), strict=True)]
    if return_indices or all(length % size == 0 for length, size in zip(_lengths(input), sizes, strict=True)):
        return None
    x = input
    for axis, (length, size) in enumerate(zip(_lengths(input), sizes, strict=True), -2):
        bounds = [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
        longest = max(end - start for start, end in bounds)
        places = [min(start + i, end - 1) for start, end in bounds for i in range(longest)]
        x = x.index_select(axis % 4, torch.tensor(places, device=x.device)).unflatten(axis, (size, longest)).amax(axis)
    return x


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor | None:
    """Where the output's padding is not below the stride."""
    s, p, more = _pair(stride), _pair(padding), _pair(output_padding)
    if all(one < step for one, step in zip(more, s, strict=True)):
        return None
    whole = torch.conv_transpose2d(input, weight, None, s, 0, 0, groups, dilation)
    cut = F.pad(whole, (-p[1], more[1] - p[1], -p[0], more[0] - p[0]))
    return cut if bias is None else cut + bias.view(1, -1, 1, 1)


def rrelu(
    input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> Tensor | None:
    """In eval mode."""
    return None if training else F.leaky_relu(input, (lower + upper) / 2)


class StandIns(TorchFunctionMode):
    """A context in which a network is traced with what stands in.

    ``module``: run once on ``example`` ``[N, C, H, W]`` when this is made, so that the matrices of resizings are numbers
    before a tracer sees them; an exported program is left as it is, and None given.
    """

    def __init__(self, module: nn.Module | None, example: Tensor) -> None:
        super().__init__()
        self._matrices: dict[object, tuple[Tensor, Tensor]] = {}
        self._table: dict[object, Callable[..., Tensor | None]] = {
            F.max_pool2d: max_pool2d,
            torch.max_pool2d: max_pool2d,
            F.avg_pool2d: avg_pool2d,
            F.lp_pool2d: lp_pool2d,
            F.adaptive_max_pool2d: adaptive_max_pool2d,
            F.conv_transpose2d: conv_transpose2d,
            F.rrelu: rrelu,
            F.interpolate: self._interpolate,
        }
        if module is not None:
            with torch.inference_mode(), self:
                module(example)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What stands in for ``func`` with these arguments, or its own answer."""
        other = self._table.get(func)
        given = kwargs or {}
        answer = other(*args, **given) if other is not None and isinstance(args[0], Tensor) else None
        return func(*args, **given) if answer is None else answer

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def _interpolate(
        self,
        input: Tensor,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
        antialias: bool = False,
    ) -> Tensor | None:
        """Where it is antialiased, by a factor or with ``align_corners``."""
        if not antialias or input.ndim != 4 or (size is not None and not align_corners):
            return None
        key = (_lengths(input), str(size), str(scale_factor), mode, align_corners, recompute_scale_factor)
        if key not in self._matrices:

            def resized(length: int, axis: int) -> Tensor:
                """What resizing makes of the unit matrix of ``length``, along one axis; PyTorch errs where the other is 1."""
                unit = torch.eye(length)
                unit = (
                    unit[None, :, :, None].repeat(1, 1, 1, 4) if axis == 0 else unit[None, :, None].repeat(1, 1, 4, 1)
                )
                given = scale_factor if size is None else size
                along = given[axis] if isinstance(given, tuple | list) else given
                other = 1.0 if size is None else 4
                both: Any = (along, other) if axis == 0 else (other, along)
                made = F.interpolate(
                    unit,
                    size=None if size is None else both,
                    scale_factor=both if size is None else None,
                    mode=mode,
                    align_corners=align_corners,
                    recompute_scale_factor=recompute_scale_factor,
                    antialias=True,
                )
                return made[0, :, :, 0] if axis == 0 else made[0, :, 0]

            rows, columns = (resized(length, axis) for axis, length in enumerate(_lengths(input)))
            self._matrices[key] = rows.T.contiguous(), columns
        rows, columns = self._matrices[key]
        if columns.shape[1] == 1:  # there PyTorch's answer is no resizing of the whole
            return None
        return torch.matmul(torch.matmul(rows, input), columns)
