"""What a graph costs on ONNX Runtime's CPU kernels, predicted: the same answer on a quiet machine and on a busy one.

Time of a kernel = fixed + per multiply-accumulate + per weight + per gathered element + per element read or written. The
numbers were fitted to 29,000 kernels of ONNX Runtime's profiles (ten networks at 224 and 96 px, float, int8 and between; one
thread of an AMD EPYC with AVX512-VNNI); ``make bench BENCH=kernel_cost`` holds them against the machine at hand.

Other instruction sets change the rates. Only those of ``vnni`` were measured; ``avx2`` and ``avx512`` follow from how many
products one instruction makes (u8·s8 without VNNI: three instructions for 32 products in place of one for 64) and from
published speed-ups of whole networks, ``arm64`` from its dot-product instructions. Choices need only their ratios.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx

from deploykit.quantization.kernels import Kernel, kernels

Rates = tuple[float, float, float, float, float]
"""Microseconds: fixed, per million multiply-accumulates, per thousand weights, gathered elements, elements."""

MEASURED: dict[str, Rates] = {
    "f32 dense": (4.62, 7.21, 0.149, 0.0299, 0),
    "f32 depthwise": (2.11, 9.72, 0.371, 0, 0.0647),
    "f32 first": (0, 3.52, 0, 0.289, 0),
    "f32 pointwise": (1.55, 7.88, 0.0745, 0, 0.0244),
    "f32 product": (1.0, 8.28, 0.0872, 0, 0),
    "plain f32 grouped": (3.0, 9.52, 1.12, 0.152, 0.289),
    "int8 dense": (2.03, 1.93, 0.0119, 0, 0.13),
    "int8 depthwise": (2.65, 15.2, 0.136, 0, 0.0582),
    "int8 depthwise odd": (2.4, 60.1, 0, 0, 0.0373),
    "int8 grouped": (1.1, 0, 0, 0.243, 0.0282),
    "int8 pointwise": (2.44, 1.99, 0.0242, 0, 0.0372),
    "int8 product": (1.0, 2.33, 0.0218, 0, 0.0318),
    "QLinearAdd": (1.45, 0, 0, 0, 0.104),
    "QLinearMul": (1.72, 0, 0, 0, 0.184),
    "QLinearSigmoid": (1.43, 0, 0, 0, 0.242),
    "QLinearConcat": (3.1, 0, 0, 0, 0.0531),
    "QLinearGlobalAveragePool": (1.71, 0, 0, 0, 0.0297),
    "QuantizeLinear": (1.18, 0, 0, 0, 0.0586),
    "DequantizeLinear": (0.498, 0, 0, 0, 0.0939),
    "NhwcMaxPool": (1.82, 0, 0, 0, 0.0557),
    "Min": (0.425, 0, 0, 0, 0.024),
    "Add": (0.401, 0, 0, 0, 0.121),
    "Mul": (2.24, 0, 0, 0, 0.104),
    "Relu": (0.158, 0, 0, 0, 0.0686),
    "QuickGelu": (0.44, 0, 0, 0, 0.136),
    "BiasGelu": (5.64, 0, 0, 0, 0.494),
    "LayerNormalization": (0.931, 0, 0, 0, 0.396),
    "ReduceMean": (1.28, 0, 0, 0, 0.056),
    "Concat": (2.68, 0, 0, 0, 0.0799),
    "Transpose": (0.607, 0, 0, 0, 0.0474),
    "ReorderInput": (0.454, 0, 0, 0, 0.076),
    "ReorderOutput": (0.468, 0, 0, 0, 0.0772),
    "SpaceToDepth": (0.5, 0, 0, 0, 0.398),
    "Reshape": (1.48, 0, 0, 0, 0.0285),
    "Tile": (1.39, 0, 0, 0, 1.5),
    "MaxPool": (5.0, 0, 0, 0, 3.5),
    "GlobalAveragePool": (0.852, 0, 0, 0, 0.127),
    "blocked MaxPool": (2.43, 0, 0, 0, 0.0577),
    "blocked AveragePool": (0.401, 0, 0, 0, 0.0489),
    "blocked GlobalAveragePool": (0.365, 0, 0, 0, 0.0392),
}
ELEMENTWISE: Rates = (1.0, 0, 0, 0, 0.1)
"""Of an operator that is not in the table."""
TRANSCENDENTAL: Rates = (1.0, 0, 0, 0, 0.5)
_SLOW = (
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "Tanh",
    "Erf",
    "Gelu",
    "Exp",
    "Softmax",
    "Softplus",
    "Elu",
    "Div",
    "Pow",
)


@dataclass(frozen=True)
class Scale:
    """How many times the measured rates another instruction set takes: float products, integer products, all else."""

    f32: float
    int8: float
    rest: float


SCALES = {"vnni": Scale(1, 1, 1), "avx512": Scale(1, 2.8, 1), "avx2": Scale(2.2, 5.5, 1.5), "arm64": Scale(3.5, 4, 2)}
"""By the names of :data:`deploykit.base.environment.ISAS`."""


def cost_us(optimized: onnx.ModelProto, isa: str, image: Sequence[int] = ()) -> float:
    """Predicted microseconds for one image on one thread.

    ``optimized``: as ONNX Runtime's optimizer left it. ``isa``: one of ``SCALES``. ``image``: shape of the input without its
    batch, where the graph leaves it open.
    """
    return sum(kernel_us(one, isa) for one in kernels(optimized, image))


def kernel_us(kernel: Kernel, isa: str) -> float:
    """Predicted microseconds of one kernel."""
    fixed, macs, weights, patches, elements = _rates(kernel)
    scale = SCALES[isa]
    products = scale.int8 if kernel.kind.startswith("int8") else scale.f32
    return (
        fixed
        + products * macs * kernel.macs / 1e6
        + scale.rest * (weights * kernel.weights + patches * kernel.patches + elements * kernel.elements) / 1e3
    )


def _rates(kernel: Kernel) -> Rates:
    found = MEASURED.get(kernel.kind)
    if found is not None:
        return found
    if kernel.macs:
        return MEASURED["int8 dense" if kernel.kind.startswith("int8") else "plain f32 grouped"]
    return TRANSCENDENTAL if kernel.kind.removeprefix("QLinear") in _SLOW else ELEMENTWISE


CostOf = Callable[[onnx.ModelProto], float]
"""A graph → what it costs in microseconds."""
