"""Random input for a graph whose data nobody has: of the shapes and types that it declares, the same for a seed.

Floats are uniform in 0…1, ``uint8`` in 0…255 as in an image. Other integers are 0 or 1 and so are truth values: places in a
table, counts and masks that any network takes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from deploykit.base.errors import BadInput, unknown
from deploykit.base.runner import Ranged, Runner
from deploykit.base.tensor_spec import TensorSpec

Shapes = Mapping[str, tuple[int, ...]]
ONLY = ""
"""The name under which the shape of an only input may be given."""


def input_shapes(runner: Runner, named: Shapes, batch: int | None = None) -> dict[str, tuple[int, ...]]:
    """The shape of every input: as named, else as declared, its free first dimension ``batch`` images.

    A free size that a shape names holds for every input whose size is called the same.

    ``runner``: an open engine; where the file of one image input tells the image's size, it need not be named. ``named``: by
    input; an only input may be called ``""``. ``batch``: None: 1, or what the engine serves best.

    Raises:
        BadInput: an unknown input, a shape that contradicts the declared one, or a free size that nothing names.
    """
    names = [one.name for one in runner.inputs]
    if ONLY in named and len(names) == 1:
        named = {names[0]: named[ONLY]}
    for name in named:
        if name == ONLY:
            raise BadInput(
                "--shape does not say of which input", expected=f"NAME:SIZES, NAME one of {', '.join(names)}"
            )
        if name not in names:
            raise unknown("input", name, names)
    best = runner.best_shapes() if isinstance(runner, Ranged) else {}
    known = runner.preprocessing.size if runner.preprocessing is not None and len(names) == 1 else None
    found = {one.name: _agreeing(one, named[one.name]) for one in runner.inputs if one.name in named}
    sizes = {
        dim: size
        for one in reversed(runner.inputs)
        for dim, size in zip(one.shape, found.get(one.name, ()), strict=False)
        if isinstance(dim, str) and not re.fullmatch(r"dim\d+|\?", dim)  # sizes without a name
    }
    for one in runner.inputs:
        if one.name not in named:
            free = replace(one, shape=tuple(sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in one.shape))
            found[one.name] = _declared(free, batch, known, best.get(one.name))
    return {name: found[name] for name in names}


def _declared(
    spec: TensorSpec, batch: int | None, size: tuple[int, int] | None, best: tuple[int, ...] | None
) -> tuple[int, ...]:
    dims = list(spec.shape)
    if dims and isinstance(dims[0], str) and (batch is not None or best is None):
        dims[0] = batch or 1
    if best is not None:
        dims = [served if isinstance(dim, str) else dim for dim, served in zip(dims, best, strict=True)]
    if size is not None and len(dims) == 4:
        first = 1 if spec.layout == "NHWC" else 2
        dims[first : first + 2] = [
            free if isinstance(dim, str) else dim for dim, free in zip(dims[first : first + 2], size, strict=True)
        ]
    if any(isinstance(dim, str) for dim in dims):
        example = "x".join(str(dim) if isinstance(dim, int) else "640" for dim in dims)
        raise BadInput(
            f"the input {spec.name!r} has free sizes",
            got=str(list(spec.shape)),
            expected="a number for each",
            fix=f"Name them: --shape {spec.name}:{example}.",
        )
    return tuple(int(dim) for dim in dims)


def _agreeing(spec: TensorSpec, shape: tuple[int, ...]) -> tuple[int, ...]:
    fitting = len(shape) == len(spec.shape) and all(
        isinstance(wanted, str) or dim == wanted for dim, wanted in zip(shape, spec.shape, strict=True)
    )
    if not fitting:
        raise BadInput(
            f"--shape contradicts the graph's input {spec.name!r}",
            got=f"{list(shape)}",
            expected=f"{list(spec.shape)}, whose named sizes are free",
        )
    return shape


def rows_of(shapes: Shapes) -> int:
    """How many rows (images) inputs of these shapes are: the first dimension of the first that has more than one, else 1."""
    return next((shape[0] for shape in shapes.values() if len(shape) > 1), 1)


def random_input(specs: Sequence[TensorSpec], shapes: Shapes, seed: int = 0) -> dict[str, np.ndarray]:
    """An array for every input by name.

    ``specs``: of the inputs. ``shapes``: of :func:`input_shapes`. ``seed``: the same one gives the same numbers.
    """
    return {
        one.name: _values(np.random.default_rng([seed, place]), np.dtype(one.dtype), shapes[one.name])
        for place, one in enumerate(specs)
    }


def _values(generator: np.random.Generator, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> np.ndarray:
    if dtype.kind == "f":
        values = generator.random(shape, dtype=np.float64 if dtype == np.float64 else np.float32)
        return np.asarray(values, dtype)  # of no dimensions it is a plain number
    return np.asarray(generator.integers(0, 256 if dtype == np.uint8 else 2, shape), dtype)
