"""Optimization profiles: the input shapes an engine is made for, checked here because the library takes wrong ones.

``IOptimizationProfile.set_shape`` accepts unknown names and wrong ranks in silence, and the build then fails with other
words, or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from deploykit.base.errors import BadInput, nearest

Shape = tuple[int, ...]
LARGEST = 32
MOST = 2**31 - 1
"""The library holds a dimension in 32 bits."""
_FORM = "MIN:OPT:MAX batch sizes (1:8:32), or NAME=1x3x224x224:8x3x224x224:32x3x224x224"


@dataclass(frozen=True)
class Declared:
    """An input of the network: its name and shape, -1 where a dimension is dynamic."""

    name: str
    shape: Shape

    @property
    def dynamic(self) -> bool:
        """Whether a profile has to say something of it."""
        return -1 in self.shape


@dataclass(frozen=True)
class Profile:
    """The smallest, the best served and the largest shape of each dynamic input."""

    shapes: dict[str, tuple[Shape, Shape, Shape]]

    def to_dict(self) -> dict[str, dict[str, list[int]]]:
        """JSON-able: name → ``min``, ``opt``, ``max``."""
        return {
            name: dict(zip(("min", "opt", "max"), map(list, three), strict=True)) for name, three in self.shapes.items()
        }

    def takes(self, shapes: dict[str, Shape]) -> bool:
        """Whether every dynamic input's shape lies within."""
        return all(
            len(shapes[name]) == len(low)
            and all(a <= dim <= b for a, dim, b in zip(low, shapes[name], high, strict=True))
            for name, (low, _, high) in self.shapes.items()
            if name in shapes
        )

    def distance(self, shapes: dict[str, Shape]) -> float:
        """How far ``shapes`` are from those the profile serves best."""
        return sum(
            abs(a - b)
            for name, (_, opt, _) in self.shapes.items()
            if name in shapes
            for a, b in zip(opt, shapes[name], strict=True)
        )


def make_profiles(texts: Sequence[str], inputs: Sequence[Declared], batch: int = 8) -> list[Profile]:
    """The profiles of an engine.

    ``texts``: as the user gave them; empty: one from 1 to 32 or ``batch`` where only the batch is dynamic. ``batch``:
    that the profile serves best where ``texts`` names none. Returns empty where no input is dynamic, else at least one.

    Raises:
        BadInput: a form that cannot be read, a name or rank that the network does not have, sizes that do not rise or are too large, a
            dynamic height or width that nothing names.
    """
    dynamic = [one for one in inputs if one.dynamic]
    if not dynamic:
        if texts:
            shown = ", ".join(f"{one.name} {list(one.shape)}" for one in inputs)
            raise BadInput("the network has no dynamic input, so it takes no --profile", got=shown)
        return []
    return [_profile(text, inputs, dynamic) for text in texts] or [
        _of_batches((1, batch, max(LARGEST, batch)), dynamic)
    ]


def _profile(text: str, inputs: Sequence[Declared], dynamic: Sequence[Declared]) -> Profile:
    if re.fullmatch(r"\d+:\d+:\d+", text):
        low, best, high = map(int, text.split(":"))
        return _of_batches((low, best, high), dynamic)
    shapes: dict[str, tuple[Shape, Shape, Shape]] = {}
    for part in text.split(","):
        name, equals, three = part.rpartition("=")
        if not equals or not re.fullmatch(r"\d+(?:x\d+)*(?::\d+(?:x\d+)*){2}", three):
            raise BadInput(f"cannot read the profile {text!r}", expected=_FORM)
        shapes[name] = _checked(name, [tuple(map(int, one.split("x"))) for one in three.split(":")], inputs)
    for one in dynamic:
        if one.name not in shapes:
            raise BadInput(
                f"the profile {text!r} leaves out the dynamic input {one.name!r}", expected=f"{one.name}=MIN:OPT:MAX"
            )
    return Profile({name: three for name, three in shapes.items() if name in {one.name for one in dynamic}})


def _of_batches(batches: tuple[int, int, int], dynamic: Sequence[Declared]) -> Profile:
    for one in dynamic:
        free = [place for place, dim in enumerate(one.shape) if dim == -1]
        if free != [0]:
            raise BadInput(
                f"the input {one.name!r} has dynamic dimensions besides the batch",
                got=str(list(one.shape)),
                expected="a profile with whole shapes",
                fix=f"Pass --profile {one.name}=1x3x224x224:8x3x224x224:32x3x224x224 with its own sizes.",
            )
    if not 1 <= batches[0] <= batches[1] <= batches[2]:
        raise BadInput("a profile's batch sizes", got=":".join(map(str, batches)), expected="1 <= MIN <= OPT <= MAX")
    if batches[2] > MOST:
        raise BadInput("a profile's batch sizes", got=":".join(map(str, batches)), expected=f"at most {MOST}")
    return Profile({one.name: tuple((n, *one.shape[1:]) for n in batches) for one in dynamic})  # type: ignore[misc]


def _checked(name: str, shapes: list[Shape], inputs: Sequence[Declared]) -> tuple[Shape, Shape, Shape]:
    known = {one.name: one for one in inputs}
    if name not in known:
        close = nearest(name, known)
        raise BadInput(
            f"a profile names the input {name!r}, which the network does not have",
            expected="one of " + ", ".join(known),
            fix=f"Did you mean {close!r}?" if close else None,
        )
    wanted = known[name].shape
    for shape in shapes:
        if len(shape) != len(wanted):
            raise BadInput(
                f"a profile of {name!r} has the wrong rank", got=f"{len(shape)} dimensions", expected=str(list(wanted))
            )
        if any(fixed not in (-1, dim) for fixed, dim in zip(wanted, shape, strict=True)):
            raise BadInput(
                f"a profile of {name!r} changes a fixed dimension", got=str(list(shape)), expected=str(list(wanted))
            )
    for a, b, c in zip(*shapes, strict=True):
        if not 1 <= a <= b <= c:
            raise BadInput(f"a profile of {name!r}", got=f"{a}, {b}, {c}", expected="1 <= MIN <= OPT <= MAX")
        if c > MOST:
            raise BadInput(f"a profile of {name!r}", got=f"{a}, {b}, {c}", expected=f"at most {MOST}")
    return shapes[0], shapes[1], shapes[2]
