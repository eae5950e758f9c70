"""Which Q and DQ of a network definition fuse with nothing, and why, by TensorRT's published rules for explicit precision.

A DQ fuses forward into a layer that multiplies when *all* its inputs come from DQ; it passes through layers that only
move data. A Q fuses backward into the kernel that makes its input: a quantized product with what follows it, or a
pointwise kernel. Everything else runs as a kernel of its own that reads and writes memory. The builder decides in the
end, and the engine's own inspector tells what it did: this is what to expect before that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from deploykit.base.engine_layers import EngineLayer, UnfusedQdq
from deploykit.engines.tensorrt.parse import nodes_of

PAIRS = ("QUANTIZE", "DEQUANTIZE")
PRODUCTS = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "EINSUM")
MOVES = ("SHUFFLE", "SLICE", "CONCATENATION", "GATHER", "RESIZE", "SQUEEZE", "UNSQUEEZE", "IDENTITY")
POINTWISE = ("ACTIVATION", "ELEMENTWISE", "UNARY", "SCALE", "SELECT", "CAST", "NORMALIZATION", "PARAMETRIC_RELU")
POOLS = ("POOLING", "REDUCE")
Makers = dict[str, Any]
"""Tensor → the ``ILayer`` that makes it."""


def left_over(layers: list[Any]) -> list[UnfusedQdq]:
    """Q and DQ that are expected to run on their own.

    ``layers``: of the network definition.
    """
    graph = _Graph(layers)
    found: list[UnfusedQdq] = []
    for layer in layers:
        if layer.type.name in PAIRS:
            verdict = graph.quantize(layer) if layer.type.name == "QUANTIZE" else graph.dequantize(layer)
            if verdict is not None:
                why, needed, around = verdict
                beside = [node for one in around for node in nodes_of(one.metadata)]
                found.append(
                    {
                        "name": layer.name,
                        "type": layer.type.name,
                        "why": why,
                        "needed": needed,
                        "beside": beside,
                        "nodes": nodes_of(layer.metadata),
                    }
                )
    return found


_Verdict = tuple[str, bool, list[Any]] | None


class _Graph:
    """The definition, asked from its tensors."""

    def __init__(self, layers: list[Any]) -> None:
        self.makers: Makers = {}
        self.readers: dict[str, list[Any]] = {}
        for layer in layers:
            for tensor in _tensors(layer, "output"):
                self.makers[tensor.name] = layer
            for tensor in _tensors(layer, "input"):
                self.readers.setdefault(tensor.name, []).append(layer)

    def quantize(self, layer: Any) -> _Verdict:
        """Why a Q runs on its own; None: it fuses."""
        maker = self._moved_from(layer)
        if maker is None:
            return "the picture comes in float", True, []
        kind = maker.type.name
        if kind in ("CONSTANT", "DEQUANTIZE", *POINTWISE, *POOLS):  # folded, rescaled, or the kernel rounds itself
            return None
        if kind in PRODUCTS and self._on_integers(maker):
            return None
        return f"{kind.lower()} writes float", False, [maker]

    def dequantize(self, layer: Any) -> _Verdict:
        """Why a DQ runs on its own; None: all that read it take the integers."""
        readers = list(self._moved_to(layer))
        if not readers:
            return "the answer goes out in float", True, []
        floats = [one for one in readers if not self._takes(one)]
        if not floats:
            return None
        kinds = " and ".join(sorted({one.type.name.lower() for one in floats}))
        stored = self._stored(layer)
        return f"{'stored integers, which ' if stored else ''}{kinds} reads in float", False, floats

    def _takes(self, reader: Any) -> bool:
        kind = reader.type.name
        if kind in PRODUCTS:
            return self._on_integers(reader)
        if kind == "ELEMENTWISE":  # the sum of a residual: the convolution's kernel reads the skip's integers
            makers = [self.makers.get(one.name) for one in _tensors(reader, "input")]
            fusing = [one for one in makers if one is not None and one.type.name in PRODUCTS]
            return any(self._on_integers(one) for one in fusing) or self._quantized_behind(reader)
        return kind == "QUANTIZE" or (kind in (*POOLS, *POINTWISE) and self._quantized_behind(reader))

    def _quantized_behind(self, layer: Any) -> bool:
        """Whether all that read a layer, through pointwise ones, round again: one kernel then reads and writes integers."""
        pending, seen = [layer], set[str]()
        while pending:
            now = pending.pop()
            behind = list(self._moved_to(now))
            if not behind:
                return False
            for one in behind:
                if one.type.name in POINTWISE and one.name not in seen:
                    seen.add(one.name)
                    pending.append(one)
                elif one.type.name not in ("QUANTIZE", *POINTWISE):
                    return False
        return True

    def _on_integers(self, product: Any) -> bool:
        makers = [self._moved_from(product, place) for place in range(min(2, product.num_inputs))]
        return all(one is not None and one.type.name == "DEQUANTIZE" for one in makers)

    def _stored(self, layer: Any) -> bool:
        maker = self._moved_from(layer)
        if maker is not None and maker.type.name == "QUANTIZE":
            maker = self._moved_from(maker)
        return maker is not None and maker.type.name == "CONSTANT"

    def _moved_from(self, layer: Any, place: int = 0) -> Any | None:
        """What made an input, through layers that only move data; None: an input of the network."""
        tensor = layer.get_input(place)
        maker = None if tensor is None else self.makers.get(tensor.name)
        while maker is not None and maker.type.name in MOVES:
            maker = self.makers.get(maker.get_input(0).name)
        return maker

    def _moved_to(self, layer: Any) -> Iterator[Any]:
        """What reads a layer, through layers that only move data."""
        for tensor in _tensors(layer, "output"):
            for one in self.readers.get(tensor.name, []):
                if one.type.name in MOVES:
                    yield from self._moved_to(one)
                elif one.type.name != "SHAPE":  # reads no values
                    yield one


@dataclass(frozen=True)
class PlanLayer:
    """One layer as a plan's inspector tells it.

    ``row``: as it is shown. ``only_qdq``: it only quantizes or dequantizes. ``inputs``: names of the tensors that it
    reads. ``outputs``: names of the tensors that it writes.
    """

    row: EngineLayer
    conv: bool = False
    only_qdq: bool = False
    inputs: Sequence[str] = ()
    outputs: Sequence[str] = ()


def left_in_engine(layers: list[PlanLayer]) -> list[UnfusedQdq]:
    """Layers of a built engine that only quantize or dequantize, and what stands around them."""
    makers = {name: one.row for one in layers for name in one.outputs}
    readers: dict[str, list[EngineLayer]] = {}
    for one in layers:
        for name in one.inputs:
            readers.setdefault(name, []).append(one.row)
    found: list[UnfusedQdq] = []
    for one in layers:
        if not one.only_qdq:
            continue
        row = one.row
        before = [makers[name] for name in one.inputs if name in makers]
        behind = [reader for name in one.outputs for reader in readers.get(name, [])]
        needed = not before or not behind
        told = " → ".join(
            (_kind(before[0]) if before else "the picture", "it", _kind(behind[0]) if behind else "the answer")
        )
        beside = [node for other in (*before, *behind) for node in other["nodes"]]
        found.append(
            {
                "name": row["name"],
                "type": row["type"] or "Q/DQ",
                "why": f"a kernel of its own between {told}",
                "needed": needed,
                "beside": beside,
                "nodes": row["nodes"],
            }
        )
    return found


def _kind(row: EngineLayer) -> str:
    return f"{row['type'] or 'a layer'} in {row['precision']}"


def _tensors(layer: Any, side: str) -> list[Any]:
    count = layer.num_inputs if side == "input" else layer.num_outputs
    get = layer.get_input if side == "input" else layer.get_output
    return [one for one in map(get, range(count)) if one is not None]
