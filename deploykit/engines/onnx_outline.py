"""What an ONNX file computes in, read without its weights and without the onnx package: a few milliseconds whatever its size.

A file is opened inside the time that a cold start is measured by. Protobuf's wire format (protobuf.dev/programming-guides/encoding)
is a sequence of fields, of which those not asked for are skipped; the field numbers are those of onnx.proto.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_GRAPH = 7  # of ModelProto
_NODE, _INITIALIZER = 1, 5  # of GraphProto
_OP_TYPE, _ATTRIBUTE = 4, 5  # of NodeProto
_TENSOR, _SUBGRAPH = 5, 6  # of AttributeProto
_DIMS, _DATA_TYPE = 1, 2  # of TensorProto
_FLOATS = {1: "fp32", 10: "fp16", 11: "fp32", 16: "bf16"}
_FP8 = (17, 18, 19, 20)
_QUANTIZED = (
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "ConvInteger",
    "MatMulInteger",
    "QGemm",
    "MatMulNBits",
)


@dataclass
class Outline:
    """Operator → nodes, and type of stored tensors of two and more dimensions → their numbers; subgraphs count too."""

    operators: Counter[str] = field(default_factory=Counter)
    numbers: Counter[int] = field(default_factory=Counter)

    @property
    def quantized(self) -> bool:
        """Whether a node computes with integers or tells how to."""
        return any(name in _QUANTIZED or name.startswith("QLinear") for name in self.operators)

    @property
    def precision(self) -> str | None:
        """What the graph computes in; None where it stores no weights."""
        if self.quantized:
            return "fp8" if any(kind in self.numbers for kind in _FP8) else "int8"
        floats = {kind: n for kind, n in self.numbers.items() if kind in _FLOATS}
        return _FLOATS[max(floats, key=lambda kind: floats[kind])] if floats else None


def outline_of(path: Path) -> Outline | None:
    """The outline of an ``.onnx`` file; None where it cannot be read as one."""
    found = Outline()
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for number, place in _fields(content, 0, len(content)):
                if number == _GRAPH:
                    _add_graph(content, *place, found)
    except (OSError, ValueError, IndexError):
        return None
    return found


def _add_graph(content: mmap.mmap, start: int, end: int, found: Outline) -> None:
    for number, place in _fields(content, start, end):
        if number == _NODE:
            _add_node(content, *place, found)
        elif number == _INITIALIZER:
            _add_tensor(content, *place, found)


def _add_node(content: mmap.mmap, start: int, end: int, found: Outline) -> None:
    for number, place in _fields(content, start, end):
        if number == _OP_TYPE:
            found.operators[content[place[0] : place[1]].decode("utf-8", "replace")] += 1
        elif number == _ATTRIBUTE:
            for inner, at in _fields(content, *place):
                if inner == _TENSOR:
                    _add_tensor(content, *at, found)
                elif inner == _SUBGRAPH:
                    _add_graph(content, *at, found)


def _add_tensor(content: mmap.mmap, start: int, end: int, found: Outline) -> None:
    dims, kind = [], 0
    for number, place in _fields(content, start, end):
        if number == _DIMS:
            at = place[0]
            while at < place[1]:  # one number, or several packed
                size, at = _varint(content, at)
                dims.append(size)
        elif number == _DATA_TYPE:
            kind, _ = _varint(content, place[0])
    if len(dims) > 1:
        found.numbers[kind] += prod(dims)
    elif kind in _FP8:
        found.numbers[kind] += 1  # a zero point


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Number and place of each field; of a number the place of its varint."""
    at = start
    while at < end:
        tag, at = _varint(content, at)
        kind, first = tag & 7, at
        if kind == VARINT:
            _, at = _varint(content, at)
        elif kind == BYTES:
            length, first = _varint(content, at)
            at = first + length
        elif kind in (FIXED64, FIXED32):
            at += 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind} at byte {first}")
        if at > end:
            raise ValueError("a field ends behind its message")
        yield tag >> 3, (first, at)


def _varint(content: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
