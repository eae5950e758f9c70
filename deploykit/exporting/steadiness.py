"""Whether a network's answer to an image is one: the same at the second call, alone and beside another image.

An ONNX file that is verified against PyTorch image by image can only be right for such a network. What is not is named:
randomness in eval mode (dropout as a function, noise), state kept from call to call, statistics over the batch, outputs
whose shape hangs on the image's values or that lose their batch dimension.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from deploykit.base.errors import BadInput
from deploykit.exporting.module_calls import Calls, alike, first_apart, recorded
from deploykit.exporting.reference import named_outputs
from deploykit.exporting.run_failure import FAILURES
from deploykit.exporting.user_line import line_here, line_of_error


class _Draws(TorchDispatchMode):
    """Notes where random numbers are drawn: line (None where it is none of the network's own) → function."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str | None, str] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.lines.setdefault(line_here(), func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def check_steady(module: nn.Module, x: Tensor, *, one_by_one: bool) -> None:
    """Run ``module`` twice on ``x`` ``[N, C, H, W]``, and where ``one_by_one`` also on its first image alone.

    Raises:
        BadInput: an answer hangs on chance, on an earlier call, on the images beside it, or on values in its shape.
    """
    first, second = _answer(module, x), _answer(module, x)
    if not alike(tuple(first.values()), tuple(second.values())):
        raise _unsteady(module, x)
    if not one_by_one:
        return
    for name, value in first.items():
        if value.ndim == 0 or value.shape[0] != len(x):
            raise BadInput(
                f"output {name!r} of the model does not have one entry for each image",
                got=f"shape {list(value.shape)} for {len(x)} images",
                expected="the batch as its first dimension",
                fix="Let forward answer for each image; what joins them belongs behind the model.",
            )
    try:
        alone = _answer(module, x[:1])
    except FAILURES as error:
        line = line_of_error(error)
        raise BadInput(
            f"the model takes a batch of {len(x)}, but no single image{f' (at {line})' if line else ''}: {error}",
            expected="any number of images",
            fix=f"Write x.shape[0] in place of a number, or export for one batch size: --batch {len(x)}.",
        ) from error
    for name, value in first.items():
        if alone[name].shape != value[:1].shape:
            raise BadInput(
                f"output {name!r} of the model has another shape for one image than for several (squeeze()?)",
                got=f"{list(alone[name].shape)} for one, {list(value.shape)} for {len(x)}",
                fix="Name the dimensions that squeeze, view or reshape may join, or export for one batch size: --batch 1.",
            )
    if not alike(tuple(alone.values()), tuple(value[:1] for value in first.values())):
        raise _coupled(module, x)
    other = _answer(module, x[1:2])
    for name, value in alone.items():
        if other[name].shape != value.shape:
            raise BadInput(
                f"the shape of output {name!r} hangs on the image's values",
                got=f"{list(value.shape)} for one image, {list(other[name].shape)} for another",
                expected="one shape for all images",
                fix="Export the network up to the scores, and select behind it.",
            )


def _answer(module: nn.Module, x: Tensor) -> dict[str, Tensor]:
    with torch.inference_mode():
        return {name: value.clone() for name, value in named_outputs(module(x)).items()}


def _calls(module: nn.Module, x: Tensor) -> Calls:
    with torch.inference_mode(), recorded(module) as calls:
        module(x)
    return calls


def _unsteady(module: nn.Module, x: Tensor) -> BadInput:
    call = first_apart(_calls(module, x), _calls(module, x))
    place = f" by {call.named()}" if call is not None else ""
    with torch.inference_mode(), _Draws() as draws:
        module(x)
    if not draws.lines:
        return BadInput(
            f"the model answers otherwise at a second call: something is kept from one call to the next{place}",
            expected="the same answer to the same images",
            fix="Let forward change nothing of the module.",
        )
    line, function = next(iter(draws.lines.items()))
    where = f" at {line}" if line is not None else ""
    training = call is not None and call.path and call.module.training
    return BadInput(
        f"the model answers by chance, in eval mode too: {function} is drawn{where}{place}",
        expected="the same answer to the same images",
        fix=f"Call .eval() on {call.path!r}, which is in training mode."
        if training and call is not None
        else "Pass training=self.training to functions like F.dropout, or leave the noise out in eval mode.",
    )


def _coupled(module: nn.Module, x: Tensor) -> BadInput:
    call = first_apart(_calls(module, x), _calls(module, x[:1]))
    statistics = isinstance(getattr(call, "module", None), nn.modules.batchnorm._NormBase)
    place = call.named() if call is not None else "the network"
    return BadInput(
        f"the model's answer to an image depends on the images beside it: {place} computes over the batch",
        expected="the same answer alone and in a batch",
        fix="Train it with track_running_stats=True, or take GroupNorm."
        if statistics
        else "Take means, norms and softmax over other dimensions than 0, or export for one batch size: --batch 1.",
    )
