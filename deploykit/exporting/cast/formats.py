"""The two 16-bit formats a graph can be cast to, and what rounding to them does to numbers.

A 16-bit graph as a float32 one that rounds every value as the format does.

ONNX Runtime's CPU provider runs fp16 operators in float32 and has none for bf16: an overflow that a GPU would show stays
hidden there (measured: 81,000 instead of infinity). So every 16-bit value is computed in float32 and passed through a pair of
Casts, which ONNX Runtime keeps; sums inside an operator are in float32, as tensor cores do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from deploykit.base.errors import unknown

HEADROOM = 4.0
"""Pictures not seen yet may reach this many times further than those that were."""


@dataclass(frozen=True)
class Format:
    """A 16-bit format.

    Attributes:
        name: the precision's.
        significand: bits, the hidden one counted.
        largest: finite value.
        smallest: positive value.
        least_snr_db: of rounding a tensor: below it the format's exponent range is what hurts (a tensor inside the range is
            rounded with about 72 dB in fp16 and 54 dB in bf16).
        opset: from which on ONNX allows it in every operator of a CNN.
    """

    name: str
    significand: int
    largest: float
    smallest: float
    least_snr_db: float
    opset: int

    @property
    def half_ulp(self) -> float:
        """The largest relative error of rounding a number inside the range."""
        return float(2.0**-self.significand)

    @property
    def nominal_snr_db(self) -> float:
        """Of rounding numbers inside the range, whose relative errors are spread evenly over ±half a unit at most."""
        return float(20 * np.log10(2.0**self.significand) + 6)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy type."""
        import ml_dtypes

        return np.dtype(np.float16 if self.name == "fp16" else ml_dtypes.bfloat16)

    def rounded(self, values: np.ndarray) -> np.ndarray:
        """``values`` as the format holds them, again in float32; what is too large becomes infinite."""
        with np.errstate(over="ignore"):
            return values.astype(self.dtype).astype(np.float32)


FORMATS = {
    "fp16": Format("fp16", 11, 65504.0, 2.0**-24, 50.0, 13),
    "bf16": Format("bf16", 8, 3.3895e38, 2.0**-133, 35.0, 22),
}


def format_of(precision: str) -> Format:
    """The format of a precision.

    Raises:
        BadInput: not one of fp16, bf16.
    """
    if precision not in FORMATS:
        raise unknown("precision to cast to", precision, FORMATS)
    return FORMATS[precision]


@dataclass
class Seen:
    """What is known of one tensor, in constant memory.

    ``largest``: exact largest magnitude. ``mean``: largest mean magnitude of a batch. ``power``: sum of squares of the
    sampled values. ``noise``: sum of squares of their rounding errors. ``flushed``: sampled values that are not zero
    and round to zero. ``count``: values of one picture.
    """

    largest: float = 0.0
    mean: float = 0.0
    power: float = 0.0
    noise: float = 0.0
    flushed: int = 0
    count: int = field(default=0)

    @property
    def snr_db(self) -> float:
        """Of rounding; infinite where nothing is lost."""
        if self.noise == 0 or self.power == 0:
            return float("inf")
        return float(10 * np.log10(self.power / self.noise)) if np.isfinite(self.noise) else float("-inf")

    def add(self, values: np.ndarray, low: Format, pictures: int = 1) -> None:
        """See values, of which about 16,384 a picture are sampled for the rounding error.

        ``values``: float32 of any shape.
        """
        flat = values.reshape(-1)
        if not flat.size:
            return
        magnitude = np.abs(flat)
        self.largest = max(self.largest, float(magnitude.max()))
        self.mean = max(self.mean, float(magnitude.mean(dtype=np.float64)))
        self.count = max(self.count, flat.size // max(1, pictures))
        sample = flat[:: max(1, flat.size // (16384 * max(1, pictures)))]
        rounded = low.rounded(sample)
        with np.errstate(invalid="ignore", over="ignore"):
            difference = rounded.astype(np.float64) - sample
            self.noise += float((difference**2).sum())
        self.power += float((sample.astype(np.float64) ** 2).sum())
        self.flushed += int(((rounded == 0) & (sample != 0)).sum())


LOW = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
EXACT = (
    "Relu", "MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Concat", "Split", "Slice", "Identity",
    "Gather", "Expand", "DepthToSpace", "SpaceToDepth", "GlobalMaxPool",
)  # fmt: skip
"""Operators that give only numbers they were given (or zero): nothing is rounded."""


def emulated(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The float32 graph that answers as ``proto`` does with each 16-bit value rounded; inputs and outputs become float32."""
    typed = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*typed.graph.value_info, *typed.graph.output)}
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    graph = made.graph
    for initializer in graph.initializer:
        if initializer.data_type in LOW:
            array = numpy_helper.to_array(initializer).astype(np.float32)
            initializer.CopyFrom(numpy_helper.from_array(array, initializer.name))
    nodes = list(graph.node)
    del graph.node[:]
    del graph.value_info[:]
    for value in graph.input:
        kind = value.type.tensor_type.elem_type
        if kind in LOW:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
            inner = f"{value.name}/rounded"
            graph.node.extend(_rounding(value.name, inner, kind))
            for node in nodes:
                node.input[:] = [inner if name == value.name else name for name in node.input]
    for node in nodes:
        low = {name: kinds[name] for name in node.output if kinds.get(name) in LOW}
        graph.node.append(node)
        if node.op_type == "Cast" and low:
            next(one for one in node.attribute if one.name == "to").i = TensorProto.FLOAT
        if node.op_type in EXACT:
            continue
        for index, name in enumerate(node.output):
            if name in low:
                graph.node[-1].output[index] = f"{name}/exact"
        for name, kind in low.items():
            graph.node.extend(_rounding(f"{name}/exact", name, kind))
    for value in graph.output:
        if value.type.tensor_type.elem_type in LOW:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return made


def _rounding(source: str, target: str, kind: int) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Cast", [source], [f"{target}/low"], f"{target}/round", to=kind),
        helper.make_node("Cast", [f"{target}/low"], [target], f"{target}/back", to=TensorProto.FLOAT),
    ]
