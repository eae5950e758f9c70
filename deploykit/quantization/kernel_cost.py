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
"""Microseconds: fixed, per million multiply-accumulates, per thousand weights, per thousand gathered, per thousand elements."""

MEASURED: dict[str, Rates] = {
    "f32 dense": (3.78, 7.21, 0.149, 0.0303, 0),
    "f32 depthwise": (1.31, 9.76, 0.37, 0, 0.0648),
    "f32 first": (0, 3.65, 0, 0.279, 0),
    "f32 pointwise": (0.834, 7.87, 0.0743, 0, 0.024),
    "f32 product": (0.5, 8.27, 0.0866, 0, 0),
    "plain f32 grouped": (0, 9.48, 1.08, 0.152, 0.289),
    "int8 dense": (1.34, 1.98, 0.0117, 0.838, 0.02),
    "int8 depthwise": (1.79, 12.5, 0.212, 0.436, 0.0589),
    "int8 depthwise odd": (1.61, 27.4, 0, 3.58, 0),
    "int8 grouped": (0, 0, 0, 0.244, 0.0282),
    "int8 pointwise": (1.72, 1.99, 0.024, 0, 0.0367),
    "int8 product": (0.5, 2.33, 0.021, 0, 0.0307),
    "QLinearAdd": (0.622, 0, 0, 0, 0.105),
    "QLinearMul": (0.913, 0, 0, 0, 0.184),
    "QLinearSigmoid": (0.645, 0, 0, 0, 0.242),
    "QLinearConcat": (2.38, 0, 0, 0, 0.0529),
    "QLinearGlobalAveragePool": (0.921, 0, 0, 0, 0.03),
    "QuantizeLinear": (0.45, 0, 0, 0, 0.0583),
    "DequantizeLinear": (0.185, 0, 0, 0, 0.0861),
    "NhwcMaxPool": (0.802, 0, 0, 0, 0.0614),
    "Min": (0.205, 0, 0, 0, 0.0165),
    "Add": (0.3, 0, 0, 0, 0.117),
    "Mul": (1.55, 0, 0, 0, 0.103),
    "Relu": (0.2, 0, 0, 0, 0.0631),
    "QuickGelu": (0.186, 0, 0, 0, 0.131),
    "BiasGelu": (4.84, 0, 0, 0, 0.494),
    "LayerNormalization": (0, 0, 0, 0, 0.394),
    "ReduceMean": (0.489, 0, 0, 0, 0.0559),
    "Concat": (1.94, 0, 0, 0, 0.0797),
    "Transpose": (0.287, 0, 0, 0, 0.042),
    "ReorderInput": (0.161, 0, 0, 0, 0.0697),
    "ReorderOutput": (0.205, 0, 0, 0, 0.0728),
    "SpaceToDepth": (0.5, 0, 0, 0, 0.3),
    "Reshape": (0.718, 0, 0, 0, 0.019),
    "Tile": (0.645, 0, 0, 0, 0.1),
    "MaxPool": (5.0, 0, 0, 0, 3.5),
    "GlobalAveragePool": (0.0798, 0, 0, 0, 0.126),
    "blocked MaxPool": (1.66, 0, 0, 0, 0.0577),
    "blocked AveragePool": (0, 0, 0, 0, 0.0466),
    "blocked GlobalAveragePool": (0, 0, 0, 0, 0.0363),
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
    products = scale.rest if "int8 depthwise" in kernel.kind else products  # its products are no dot products
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
