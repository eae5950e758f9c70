"""Which modules of a network ran, in the order in which they ended, with what they took and answered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from deploykit.exporting.user_line import line_here


@dataclass(frozen=True)
class Call:
    """One call of a module.

    ``path``: dotted name, empty for the network itself. ``module``: it. ``taken``, ``answered``: the tensors, of the
    first image alone where they have one for each.
    """

    path: str
    module: nn.Module
    taken: tuple[Tensor, ...]
    answered: tuple[Tensor, ...]

    def named(self) -> str:
        """``layer 'head.norm' (BatchNorm2d)``; of the network itself, the class whose ``forward`` it is."""
        kind = type(self.module).__name__
        return f"layer {self.path!r} ({kind})" if self.path else f"the forward of {kind}"


@dataclass
class Calls:
    """``ended``: in that order. ``open``: paths of those at work, the innermost last: where an exception came from."""

    ended: list[Call] = field(default_factory=list)
    open: list[tuple[str, nn.Module, tuple[Tensor, ...]]] = field(default_factory=list)


@contextmanager
def recorded(module: nn.Module, *, keep: bool = True) -> Iterator[Calls]:
    """Record the calls inside the block. Without ``keep`` tensors stay as they are, and only open calls are known."""
    calls = Calls()

    def begin(path: str, one: nn.Module, args: object) -> None:
        calls.open.append((path, one, _tensors(args, keep=keep)))

    def end(path: str, one: nn.Module, answer: object) -> None:
        _, _, taken = calls.open.pop()
        if keep:
            calls.ended.append(Call(path, one, taken, _tensors(answer, keep=True)))

    handles = []
    for path, one in module.named_modules():
        handles.append(one.register_forward_pre_hook(lambda one, args, path=path: begin(path, one, args)))
        handles.append(one.register_forward_hook(lambda one, _, answer, path=path: end(path, one, answer)))
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _tensors(values: object, *, keep: bool) -> tuple[Tensor, ...]:
    if isinstance(values, Tensor):
        return (values[:1].detach().clone() if values.ndim else values.detach().clone(),) if keep else (values,)
    inside = values.values() if isinstance(values, dict) else values if isinstance(values, tuple | list) else ()
    return tuple(tensor for value in inside for tensor in _tensors(value, keep=keep))


class _Uses(TorchDispatchMode):
    """Notes where an operator of ``aten`` is used."""

    def __init__(self, name: str, calls: Calls) -> None:
        super().__init__()
        self.name, self.calls, self.places = name, calls, dict[str, None]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ == self.name:
            path, line = self.calls.open[-1][0], line_here()
            self.places.setdefault(" at ".join(one for one in (path and f"layer {path!r}", line) if one))
        return func(*args, **(kwargs or {}))


def users_of(module: nn.Module, x: Tensor, operator: str) -> list[str]:
    """Layers and lines of a network that use an operator (``linalg_qr``), run on ``x`` ``[N, C, H, W]``."""
    with torch.inference_mode(), recorded(module, keep=False) as calls, _Uses(operator, calls) as uses:
        module(x)
    return [place for place in uses.places if place]


ALIKE_DB = 80.0


def alike(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    """Whether tensors are the same numbers up to rounding (80 dB); integers, which may hang on a tie, are not looked at."""
    return len(one) == len(other) and all(
        a.shape == b.shape and (not a.is_floating_point() or _near(a, b)) for a, b in zip(one, other, strict=True)
    )


def _near(a: Tensor, b: Tensor) -> bool:
    difference = torch.nan_to_num(a.double() - b.double(), posinf=0.0, neginf=0.0)
    power = torch.nan_to_num(a.double()).square().sum()
    return bool(difference.square().sum() <= power * 10 ** (-ALIKE_DB / 10))


def first_apart(one: Calls, other: Calls) -> Call | None:
    """The innermost call that took the same in two runs and answered otherwise, the first such; None where none did."""
    for a, b in zip(one.ended, other.ended, strict=False):
        if a.path == b.path and alike(a.taken, b.taken) and not alike(a.answered, b.answered):
            return a
    return None
