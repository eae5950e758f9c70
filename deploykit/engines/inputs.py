"""What may go into an engine, checked before it runs: nothing is cast in silence, unknown operators are named."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.base.errors import BadInput, nearest
from deploykit.base.runner import TensorSpec


def check_input(x: Any, spec: TensorSpec, target: str) -> None:
    """Refuse an input that is not what the engine declares.

    Pictures are prepared in float32: an engine that declares float16 takes them and rounds them on their way in.

    ``x``: what the caller gave. ``spec``: of the engine's input.

    Raises:
        BadInput: no array, or another dtype, rank, size or batch; names expected and got.
    """
    wanted = _told(spec)
    if not isinstance(x, np.ndarray):
        raise BadInput(f"{target}: the input is no numpy array", got=type(x).__name__, expected=wanted)
    if not fits(x.dtype, spec):
        raise BadInput(f"{target}: wrong input {spec.name!r}", got=f"{x.dtype.name} {list(x.shape)}", expected=wanted)
    check_shape(x.shape, x.dtype.name, spec, target)


def check_shape(shape: tuple[int, ...], dtype: str, spec: TensorSpec, target: str) -> None:
    """Refuse an input whose rank, size or batch the engine does not take, wherever its memory lies.

    ``spec``: of the engine's input.

    Raises:
        BadInput: names expected and got.
    """
    if len(shape) != len(spec.shape):
        raise BadInput(f"{target}: wrong input {spec.name!r}", got=f"{dtype} {list(shape)}", expected=_told(spec))
    if shape[0] == 0:
        raise BadInput(f"{target}: the batch is empty", got=list(shape), expected="at least one picture")
    if spec.fixed_batch is not None and shape[0] != spec.fixed_batch:
        raise BadInput(
            f"{target}: the engine takes only batch {spec.fixed_batch}",
            got=f"batch {shape[0]}",
            fix=f"Give batches of {spec.fixed_batch}, or export with --batch dynamic.",
        )
    if any(isinstance(dim, int) and got != dim for dim, got in zip(spec.shape, shape, strict=True)):
        raise BadInput(f"{target}: wrong size of input {spec.name!r}", got=list(shape), expected=_told(spec))


def _told(spec: TensorSpec) -> str:
    return f"{spec.dtype} {list(spec.shape)}" + (f" ({spec.layout})" if spec.layout else "")


def fits(dtype: np.dtype[Any], spec: TensorSpec) -> bool:
    """Whether an array of this type is what the engine takes."""
    return dtype.name == spec.dtype or (dtype.name, spec.dtype) == ("float32", "float16")


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
