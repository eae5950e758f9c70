"""Configuration of the build of an engine."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from deploykit.base.targets import ORT_CUDA, ORT_TRT, TENSORRT, WITH_BUILDER, Precision
from deploykit.config.command import Argument, Command, output
from deploykit.config.flag import Flag, Panel
from deploykit.config.options import AllowCode, FileFlags, Seed, SkipBroken, data_help


class BuildConfig(FileFlags):
    """One engine from one ONNX file."""

    target: Annotated[str, Flag(choices=WITH_BUILDER)] = Field(default=TENSORRT, description="What will run it.")
    precision: Precision | None = Field(
        default=None,
        description="Of the float part, which is cast where the file has another; int8 and fp8 ask for Q/DQ, fp8 turns "
        "int8 Q/DQ into it. Default: the file's.",
    )
    allow_fallback: bool = Field(default=False, description="Accept an engine without the precision asked for.")
    beside: Literal["fp16", "none"] = Field(
        default="fp16", description="What is built beside an int8 engine, so that the faster can be named."
    )
    cuda_graph: bool = Field(
        default=False, description=f"Of {ORT_CUDA} and {ORT_TRT}: capture and replay the whole graph."
    )
    optimize: Literal["none", "basic"] = Field(
        default="none", description="For ONNX Runtime, optimized offline, by levels that hold on any machine."
    )
    profiles: Annotated[tuple[str, ...], Flag("--profile"), Panel("TensorRT")] = Field(
        default=(),
        description="Batch sizes MIN:OPT:MAX, or NAME=1x3x224x224:8x3x224x224:… (several inputs: joined by commas). "
        "Default: one from 1 to 32, or to --batch where that is larger.",
    )
    batch: int = Field(default=8, ge=1, description="Batch size served best where no --profile is named.")
    compute_capabilities: Annotated[tuple[str, ...], Flag("--compute-capability")] = Field(
        default=(),
        description="GPUs to build for ahead of time (8.6), or portable. Default: the one at hand, else portable.",
    )
    level: int | None = Field(default=None, ge=0, le=5, description="Of the builder's optimization, 0…5.")
    workspace_mib: int | None = Field(
        default=None, ge=1, description="Most scratch memory of one kernel; default: the GPU's."
    )
    sparse: bool = Field(default=False, description="Use 2:4 sparse kernels where weights have the pattern.")
    version_compatible: bool = Field(default=False, description="The plan runs on later versions of TensorRT too.")
    hardware_compatible: Literal["none", "ampere-plus", "same-compute-capability"] = Field(
        default="none", description="The plan runs on later GPUs, or on all of one compute capability."
    )
    refit: bool = Field(default=False, description="Weights can be replaced later.")
    strip: bool = Field(default=False, description="Leave the weights out of the plan.")
    builds: int = Field(default=1, ge=1, le=20, description="Times to build; the fastest plan is kept.")
    timing_cache: bool = Field(
        default=True, description="Keep what the builder measured, for the next build by this version on this GPU."
    )
    device: Annotated[int, Flag("--gpu")] = Field(default=0, ge=0, description="Index of the GPU.")
    data: Annotated[str | None, Panel("Casting")] = Field(
        default=None, description=data_help("Pictures whose ranges decide what a cast keeps in fp32")
    )
    images: int = Field(
        default=64,
        ge=1,
        description="Pictures of --data at most, whose ranges decide what a cast keeps; without: it looks at none.",
    )
    seed: Seed = 0
    allow_code: AllowCode = False
    skip_broken: SkipBroken = False


COMMAND = Command(
    "Build an engine from an ONNX file, check its precision, and say in its manifest what it is.",
    BuildConfig,
    (Argument("model", "An .onnx file; int8 comes from its Q/DQ."), output()),
    stored=True,
)
