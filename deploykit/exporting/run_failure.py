"""Why a network does not run on an input: its channels, number format, size or batch, each tried, or its own code."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deploykit.base.errors import BadInput
from deploykit.exporting.module_calls import recorded
from deploykit.exporting.user_line import line_of_error

SIZES = (224, 32, 64, 28, 96, 128, 160, 192, 256, 299, 320, 384, 512, 640)
FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What the code of a network raises; the rest (no memory, an interrupt) is not about its input."""


def failure(module: nn.Module, x: Tensor, error: Exception) -> BadInput:
    """What to tell of ``error``, which ``module`` raised on ``x`` ``[N, C, H, W]``."""
    told = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    given = f"{x.shape[1]} x {x.shape[2]} x {x.shape[3]}"
    kinds = {one.dtype for one in module.parameters() if one.is_floating_point()} - {x.dtype}
    if kinds and not _runs(module, x):
        kind = str(next(iter(kinds))).removeprefix("torch.")
        if _runs(module, x.to(next(iter(kinds)))):
            return BadInput(
                f"the model computes in {kind}",
                expected=str(x.dtype).removeprefix("torch."),
                fix="Call .float() on it.",
            )
    place, layer, shape = _innermost(module, x)
    if isinstance(layer, nn.Conv2d) and len(shape) == 4 and layer.in_channels != shape[1]:
        if shape == tuple(x.shape):
            return BadInput(
                f"the model takes images of {layer.in_channels} channels", got=f"{x.shape[1]} channels ({given})"
            )
        told = f"it takes {layer.in_channels} channels and gets {shape[1]}"
    if len(x) > 1 and _runs(module, x[:1]):
        return BadInput(
            "the model takes one image at a time",
            got=f"a batch of {len(x)}: {told}",
            fix="Pass --batch 1, or let forward keep the batch (x.flatten(1), x.shape[0]).",
        )
    height, width = x.shape[2:]
    features = getattr(layer, "in_features", None)
    if (size := _size_that_runs(module, x, features / shape[-1] if features and shape else 1.0)) is not None:
        where = f" (layer {place!r}: {told})" if place else f" ({told})"
        return BadInput(
            f"the model does not take images of {height} x {width}{where}",
            expected=f"another size: it runs at {size} x {size}",
            fix=f"Pass --size {size}, or the size that it was trained at.",
        )
    line = line_of_error(error)
    where = (f" at {line}" if line else "") + (f" in layer {place!r} ({type(layer).__name__})" if place else "")
    return BadInput(
        f"the model fails on an input of {list(x.shape)}{where}: {type(error).__name__}: {told[:300]}",
        expected="a forward that runs",
        fix="No other size, batch or format of numbers was found to run either: run it in Python first.",
    )


def _runs(module: nn.Module, x: Tensor) -> bool:
    try:
        with torch.inference_mode():
            module(x)
    except FAILURES:
        return False
    return True


def _size_that_runs(module: nn.Module, x: Tensor, area: float) -> int | None:
    """The first square size that runs: near that of ``area`` times the places, near the one given, then usual ones."""
    given = max(x.shape[2:])
    wanted = (
        []
        if area == 1
        else sorted(range(int(given * area**0.5) - 3, int(given * area**0.5) + 5), key=lambda one: one % 8)
    )
    near = [*wanted, -(-given // 32) * 32, given // 32 * 32]
    tried = [size for size in dict.fromkeys((*near, *SIZES)) if size > 0 and (size, size) != tuple(x.shape[2:])]
    return next((size for size in tried if _runs(module, x.new_zeros(1, x.shape[1], size, size))), None)


def _innermost(module: nn.Module, x: Tensor) -> tuple[str, nn.Module, tuple[int, ...]]:
    """Path, layer and input shape of the call that an exception came from."""
    with recorded(module, keep=False) as calls:
        _runs(module, x)
    if not calls.open:
        return "", module, ()
    path, layer, taken = calls.open[-1]
    return path, layer, tuple(taken[0].shape) if taken else ()
