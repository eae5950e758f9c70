"""What may go into an engine, checked before it runs: nothing is cast in silence, unknown operators are named."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.base.errors import BadInput, nearest
from deploykit.base.runner import Feed
from deploykit.base.tensor_spec import TensorSpec


def feed_of(x: Feed, specs: Sequence[TensorSpec], target: str) -> dict[str, np.ndarray]:
    """Every input of an engine by name, checked; its only one may come as an array alone.

    Images are prepared in float32: an engine that declares float16 takes them and rounds them on their way in.

    ``x``: what the caller gave. ``specs``: of the engine's inputs.

    Raises:
        BadInput: an input is missing or unknown, or is no array of the dtype, rank, size and batch declared.
    """
    if not isinstance(x, Mapping):
        if len(specs) != 1:
            raise BadInput(
                f"{target}: the network has several inputs",
                got="one array",
                expected=", ".join(_named(one) for one in specs),
                fix="Only `verify` and `benchmark` without --data run such a network.",
            )
        x = {specs[0].name: x}
    if x.keys() != {one.name for one in specs}:
        raise BadInput(
            f"{target}: not the network's inputs",
            got=", ".join(map(repr, x)) or "none",
            expected=", ".join(_named(one) for one in specs),
        )
    return {one.name: _checked(x[one.name], one, target) for one in specs}


def declared_feed(x: Feed, specs: Sequence[TensorSpec], target: str) -> dict[str, np.ndarray]:
    """:func:`feed_of`, each input in the type that the engine declares."""
    feed = feed_of(x, specs, target)
    return {one.name: feed[one.name].astype(one.dtype, copy=False) for one in specs}


def check_input(x: Feed, spec: TensorSpec, target: str) -> np.ndarray:
    """The array of an engine's only input, checked: see :func:`feed_of`."""
    return feed_of(x, [spec], target)[spec.name]


def _checked(x: Any, spec: TensorSpec, target: str) -> np.ndarray:
    wanted = _told(spec)
    if not isinstance(x, np.ndarray):
        raise BadInput(f"{target}: the input {spec.name!r} is no numpy array", got=type(x).__name__, expected=wanted)
    if x.dtype not in taken(spec):
        raise BadInput(f"{target}: wrong input {spec.name!r}", got=f"{x.dtype.name} {list(x.shape)}", expected=wanted)
    check_shape(x.shape, x.dtype.name, spec, target)
    return x


def check_shape(shape: tuple[int, ...], dtype: str, spec: TensorSpec, target: str) -> None:
    """Refuse an input whose rank, size or batch the engine does not take, wherever its memory lies.

    ``spec``: of the engine's input.

    Raises:
        BadInput: names expected and got.
    """
    if len(shape) != len(spec.shape):
        raise BadInput(f"{target}: wrong input {spec.name!r}", got=f"{dtype} {list(shape)}", expected=_told(spec))
    if shape[:1] == (0,):
        raise BadInput(f"{target}: the batch is empty", got=list(shape), expected="at least one image")
    if len(shape) > 1 and spec.fixed_batch is not None and shape[0] != spec.fixed_batch:
        raise BadInput(
            f"{target}: the engine takes only batch {spec.fixed_batch}",
            got=f"batch {shape[0]}",
            fix=f"Give batches of {spec.fixed_batch}, or export with --batch dynamic.",
        )
    if any(isinstance(dim, int) and got != dim for dim, got in zip(spec.shape, shape, strict=True)):
        raise BadInput(f"{target}: wrong size of input {spec.name!r}", got=list(shape), expected=_told(spec))


def _named(spec: TensorSpec) -> str:
    return f"{spec.name!r} {_told(spec)}"


def _told(spec: TensorSpec) -> str:
    return f"{spec.dtype} {list(spec.shape)}" + (f" ({spec.layout})" if spec.layout else "")


def shown(x: Feed) -> str:
    """The shape of an input, or of each by name, for an error."""
    if isinstance(x, Mapping):
        return ", ".join(f"{name} {list(one.shape)}" for name, one in x.items())
    return f"{list(x.shape)}"


def taken(spec: TensorSpec) -> tuple[np.dtype[Any], ...]:
    """The types that an input takes, its own first."""
    own = np.dtype(spec.dtype)
    return (own, np.dtype(np.float32)) if own == np.float16 else (own,)


def key_of(x: Feed, known: Mapping[str, tuple[np.dtype[Any], ...]]) -> Hashable | None:
    """What tells the shapes of inputs apart, fast; None where ``x`` is not of the types in ``known``, input by input."""
    if not isinstance(x, Mapping):
        fitting = len(known) == 1 and isinstance(x, np.ndarray) and x.dtype in next(iter(known.values()))
        return x.shape if fitting else None
    if x.keys() != known.keys() or not all(isinstance(x[name], np.ndarray) for name in known):
        return None
    return tuple(x[name].shape for name in known) if all(x[name].dtype in known[name] for name in known) else None


def refuse_options(options: dict[str, str], known: dict[str, str], target: str) -> None:
    """Refuse options that a target does not have.

    ``options``: as given in the spec. ``known``: name → what it does.

    Raises:
        BadInput: with the list of known ones and the nearest.
    """
    for name in options:
        if name not in known:
            close = nearest(name, known)
            raise BadInput(
                f"{target} has no option {name!r}",
                expected="one of " + ", ".join(known) if known else "no options",
                fix=f"Did you mean {close!r}?" if close else None,
            )


def switch(options: dict[str, str], name: str, default: bool) -> bool:
    """An option that is 0 or 1.

    Raises:
        BadInput: anything else.
    """
    value = options.get(name)
    if value is None:
        return default
    if value not in ("0", "1"):
        raise BadInput(f"option {name}", got=repr(value), expected="0 or 1")
    return value == "1"


SHOWN = 6


def unsupported(path: Path, ops: Collection[str], engine: str) -> BadInput:
    """Name the nodes of ``ops`` in an ``.onnx`` file.

    ``ops``: operators that the engine does not know, without their domain. ``engine``: its name, for people.
    """
    nodes = _nodes(path, ops)
    shown = "; ".join(nodes[:SHOWN]) or ", ".join(sorted(ops))
    more = f" (and {len(nodes) - SHOWN} more)" if len(nodes) > SHOWN else ""
    return BadInput(
        f"{path} has operators that {engine} does not know: {shown}{more}",
        fix="Replace them by standard ONNX operators, or compute that outside the network.",
    )


def _nodes(path: Path, ops: Collection[str]) -> list[str]:
    if path.suffix.lower() != ".onnx":
        return []
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    return [f"{node.op_type} (node {node.name or node.output[0]})" for node in graph.node if node.op_type in ops]
