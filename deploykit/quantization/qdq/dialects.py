"""One dialect of Q/DQ per target: no single file is good on all of them.

==============  ===========  ==================  ======  ===============================================
target          activations  zero points         bias    where the Q stand
==============  ===========  ==================  ======  ===============================================
ort-cpu, x86    uint8        any                 int32   behind each node that has an integer kernel
ort-cpu, Arm    int8         any                 int32   the same
tensorrt, …     int8         0                   float   on inputs, so that the engine fuses by itself
openvino        uint8        any                 float   the same
==============  ===========  ==================  ======  ===============================================

Weights are int8, symmetric, with a scale for each output channel, everywhere.
"""

from __future__ import annotations

import platform
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Protocol

import onnx_ir as ir

from deploykit.base.environment import cpu
from deploykit.base.errors import BadInput, unknown
from deploykit.base.targets import TARGETS
from deploykit.quantization.qdq.placement_ort_cpu import Plan, plan_ort_cpu
from deploykit.quantization.qdq.placement_tensorrt import plan_at_inputs
from deploykit.quantization.schemes import S8, S8_ASYMMETRIC, U8, Scheme

ARM = ("arm64", "aarch64", "armv8l", "armv7l")
SUMS_IN_INT32 = ("avx512_vnni", "avx_vnni", "amx_int8")


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
        target: its name.
        plan: decides what is quantized.
        activations: their scheme.
        weight_bits: 7 where the CPU adds pairs of u8·s8 products in 16 bits, which 8-bit weights overflow.
        integer_bias: biases are int32 behind a DQ; else float.
        padded: channels are padded to what ONNX Runtime's integer kernels are fast at.
        timed: the machine at hand runs it, so that choices are made by measured time.
    """

    target: str
    plan: MakePlan
    activations: Scheme
    weight_bits: int = 8
    integer_bias: bool = False
    padded: bool = False
    timed: bool = False


ORT_CPU = Dialect("ort-cpu", plan_ort_cpu, U8, integer_bias=True, padded=True, timed=True)
DIALECTS = {
    "ort-cpu": ORT_CPU,
    "ort-trt": Dialect("ort-trt", plan_at_inputs, S8),
    "tensorrt": Dialect("tensorrt", plan_at_inputs, S8),
    "tensorrt-rtx": Dialect("tensorrt-rtx", plan_at_inputs, S8),
    "openvino": Dialect("openvino", plan_at_inputs, U8),
}
ON_CPU = ("ort-cpu", "openvino")


def dialect_for(target: str, isa: Collection[str] = SUMS_IN_INT32, machine: str = "x86_64") -> Dialect:
    """The dialect of ``target`` on a CPU.

    x86 multiplies u8 by s8 and, without VNNI or AMX, adds two products in int16, which saturates: 7-bit weights cannot.
    Arm multiplies s8 by s8 and has no such instruction.

    Args:
        target: of the vocabulary of targets.
        isa: instruction sets of the CPU that will run it, as ``base.environment.cpu()`` names them.
        machine: as ``platform.machine()`` names it.

    Raises:
        BadInput: a target that has no int8.
    """
    if target not in DIALECTS:
        raise unknown("int8 target", target, DIALECTS)
    made = DIALECTS[target]
    if target not in ON_CPU:
        return made
    if machine.lower() in ARM:
        return replace(made, activations=S8_ASYMMETRIC)
    if not set(isa) & set(SUMS_IN_INT32):
        return replace(made, weight_bits=7)
    return made


def dialect_of(target: str) -> Dialect:
    """The dialect of a target on this machine's CPU.

    Raises:
        BadInput: a target that is not known, or has no int8; the line says what to use.
    """
    if target not in TARGETS:
        raise unknown("int8 target", target, DIALECTS)
    if target == "ort-cuda":
        raise BadInput(
            "int8 for ort-cuda",
            expected="a target with int8 kernels",
            fix="ONNX Runtime's CUDA provider runs Q/DQ in float and slower: use fp16 there, or --target tensorrt.",
        )
    if target not in DIALECTS:
        raise BadInput(f"{target} has no int8 dialect", expected="one of " + ", ".join(DIALECTS))
    return dialect_for(target, cpu()["isa"], platform.machine())
