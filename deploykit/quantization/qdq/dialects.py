"""The dialects of Q/DQ, one for each target: no single file is good on all of them.

======================  ===========  ===========  ======  ===============================================
dialect                 activations  zero points  bias    where the Q stand
======================  ===========  ===========  ======  ===============================================
integer-kernels, x86    uint8        any          int32   behind each node that has an integer kernel
integer-kernels, Arm    int8         any          int32   the same
signed-inputs           int8         0            float   on inputs, so that the engine fuses by itself
unsigned-inputs         uint8        any          float   the same
======================  ===========  ===========  ======  ===============================================

The first is ONNX Runtime's on the CPU, the second TensorRT's, the third OpenVINO's.

Weights are int8, symmetric, with a scale for each output channel, everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import onnx_ir as ir

from deploykit.base import environment
from deploykit.base.errors import BadInput, unknown
from deploykit.base.targets import BUILT_IN, OPENVINO, ORT_CPU, TENSORRT, target_names, target_of
from deploykit.quantization.qdq.placement_ort_cpu import Plan, plan_ort_cpu
from deploykit.quantization.qdq.placement_tensorrt import plan_at_inputs
from deploykit.quantization.schemes import S8, S8_ASYMMETRIC, U8, Scheme

SATURATING = ("avx2", "avx512")


class MakePlan(Protocol):
    """Decides on a prepared float graph what is quantized."""

    def __call__(
        self, graph: ir.Graph, keep_float: frozenset[str] = ..., *, float_adds: bool = ..., float_head: bool = ...
    ) -> Plan:
        """The plan for ``graph``."""


@dataclass(frozen=True)
class Dialect:
    """What one target wants to read.

    Attributes:
        target: whose it is.
        plan: decides what is quantized.
        activations: their scheme.
        weight_bits: width of the weights at most.
        paired: the CPU adds pairs of u8·s8 products in 16 bits, which two large neighbouring weights would overflow: each
            channel's weights are as wide as they themselves allow, between 7 and 8 bits.
        integer_bias: biases are int32 behind a DQ; else float.
        padded: channels are padded to what ONNX Runtime's integer kernels are fast at.
        costed: ONNX Runtime's CPU kernels run it: what they cost is known, and the machine at hand can time it.
        isa: of the CPU that it is written for, as ``base.environment.ISAS`` names them.
    """

    target: str
    plan: MakePlan
    activations: Scheme
    weight_bits: int = 8
    paired: bool = False
    integer_bias: bool = False
    padded: bool = False
    costed: bool = False
    isa: str = "vnni"

    def of_width(self, bits: int) -> Dialect:
        """The same with weights of one width everywhere; two neighbours of 7 bits never overflow."""
        return replace(self, weight_bits=min(bits, 7) if self.paired else bits, paired=False)


_KINDS = {
    "integer-kernels": Dialect(ORT_CPU, plan_ort_cpu, U8, integer_bias=True, padded=True, costed=True),
    "signed-inputs": Dialect(TENSORRT, plan_at_inputs, S8),
    "unsigned-inputs": Dialect(OPENVINO, plan_at_inputs, U8),
}
DIALECTS = {row.name: replace(_KINDS[row.dialect], target=row.name) for row in BUILT_IN if row.dialect is not None}
"""Of the targets that come with deploykit, on a CPU that sums in int32."""
DEFAULT = DIALECTS[ORT_CPU]


def int8_targets() -> tuple[str, ...]:
    """Names of the targets that have a dialect."""
    return target_names(lambda row: row.dialect is not None)


def dialect_for(target: str, isa: str = "vnni") -> Dialect:
    """The dialect of ``target`` on a CPU.

    x86 multiplies u8 by s8 and, without VNNI or AMX, adds two products in int16, which saturates.
    Arm multiplies s8 by s8 and has no such instruction.

    ``isa``: of the CPU that will run it, one of ``base.environment.ISAS``.

    Raises:
        BadInput: a target that has no int8.
    """
    row = target_of(target) if target in target_names() else None
    if row is None or row.dialect is None:
        raise unknown("int8 target", target, int8_targets())
    made = replace(_KINDS[row.dialect], target=target)
    if not row.on_cpu:
        return made
    if isa == "arm64":
        return replace(made, activations=S8_ASYMMETRIC, isa=isa)
    return replace(made, paired=isa in SATURATING, isa=isa)


def dialect_of(target: str, isa: str = "native") -> Dialect:
    """The dialect of a target on a CPU of this ``isa``; ``native``: this machine's.

    Raises:
        BadInput: a target that is not known, or has no int8; the line says what to use.
    """
    if target not in target_names():
        raise unknown("int8 target", target, int8_targets())
    row = target_of(target)
    if row.no_int8 is not None:
        raise BadInput(f"int8 for {target}", expected="a target with int8 kernels", fix=row.no_int8)
    if row.dialect is None:
        raise BadInput(f"{target} has no int8 dialect", expected="one of " + ", ".join(int8_targets()))
    return dialect_for(target, environment.isa() if isa == "native" else isa)
