"""Configuration of the build of an engine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from deploykit.config.common import Config


class BuildConfig(Config):
    """One engine from one ONNX file.

    Attributes:
        target: what will run it.
        precision: of the float part, which is cast where the file has another; ``int8`` and ``fp8`` ask for Q/DQ, ``fp8``
            turns int8 Q/DQ into it. None: as the file is.
        profiles: optimization profiles, ``MIN:OPT:MAX`` batch sizes, or ``NAME=SHAPE:SHAPE:SHAPE`` with shapes like
            ``1x3x224x224`` (several inputs: joined by commas). Empty: one from 1 to 32, or to ``batch`` where that is larger.
        batch: that the profile serves best where none is named.
        level: of the builder's optimization, 0 to 5; None: the builder's own default.
        workspace_mib: most scratch memory of one kernel; None: all of the GPU.
        sparse: let the builder use 2:4 sparse kernels where weights have the pattern.
        compute_capabilities: GPUs to build for ahead of time (``8.6``); empty: the one at hand, else portable.
        version_compatible: the plan runs on later versions of TensorRT too.
        hardware_compatible: the plan runs on later GPUs (``ampere-plus``), or on all of one compute capability.
        refit: weights can be replaced later.
        strip: leave the weights out of the plan.
        builds: times to build; the fastest plan is kept.
        timing_cache: keep what the builder measured, for this GPU and version, in the user's cache.
        allow_fallback: accept an engine in which the asked precision is not found.
        beside: what is built beside an int8 engine, so that the faster can be named: ``fp16`` or ``none``.
        optimize: of ONNX Runtime targets, the level written into the file (only levels that hold on any machine).
        cuda_graph: of ort-cuda and ort-trt, capture and replay the whole graph.
        data: pictures whose measured ranges decide what a cast keeps in fp32; None: the builder casts without pictures.
        images: pictures of ``data`` at most.
        size: input size in pixels where the file does not carry it.
        device: index of the GPU.
        seed: of everything random.
        allow_code: ``module:…`` data may run.
        skip_broken: leave out pictures that cannot be read, naming them.
    """

    target: str = "tensorrt"
    precision: Literal["fp32", "tf32", "fp16", "bf16", "fp8", "int8"] | None = None
    profiles: tuple[str, ...] = ()
    batch: int = Field(8, ge=1)
    level: int | None = Field(None, ge=0, le=5)
    workspace_mib: int | None = Field(None, ge=1)
    sparse: bool = False
    compute_capabilities: tuple[str, ...] = ()
    version_compatible: bool = False
    hardware_compatible: Literal["none", "ampere-plus", "same-compute-capability"] = "none"
    refit: bool = False
    strip: bool = False
    builds: int = Field(1, ge=1, le=20)
    timing_cache: bool = True
    allow_fallback: bool = False
    beside: Literal["fp16", "none"] = "fp16"
    optimize: Literal["none", "basic"] = "none"
    cuda_graph: bool = False
    data: str | None = None
    images: int = Field(64, ge=1)
    size: int | None = Field(None, ge=1)
    device: int = Field(0, ge=0)
    seed: int = Field(0, ge=0)
    allow_code: bool = False
    skip_broken: bool = False
