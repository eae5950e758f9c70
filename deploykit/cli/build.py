"""``deploykit build``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploykit.cli import options as o
from deploykit.cli.runtime import running


def command(
    model: Annotated[Path | None, typer.Argument(help="An .onnx file; int8 comes from its Q/DQ.")] = None,
    output: o.Output = None,
    target: Annotated[
        str, typer.Option(help="tensorrt, tensorrt-rtx, ort-trt, ort-cuda, ort-cpu or openvino.")
    ] = "tensorrt",
    precision: Annotated[
        str | None,
        typer.Option(
            help="Of the float part: fp32, tf32, fp16 or bf16; int8 and fp8 ask for Q/DQ. Default: the file's."
        ),
    ] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option("--profile", help="Batch sizes MIN:OPT:MAX, or NAME=1x3x224x224:8x3x224x224:…; may be repeated."),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", help="Batch size served best where no --profile is named.")] = 8,
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(
            "--compute-capability", help="GPUs to build for ahead of time (8.6), or portable; may be repeated."
        ),
    ] = None,
    level: Annotated[int | None, typer.Option(help="Of the builder's optimization, 0…5.")] = None,
    workspace_mib: Annotated[
        int | None, typer.Option("--workspace-mib", help="Most scratch memory of one kernel.")
    ] = None,
    sparse: Annotated[
        bool, typer.Option("--sparse", help="Use 2:4 sparse kernels where weights have the pattern.")
    ] = False,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="The plan runs on later versions of TensorRT too.")
    ] = False,
    hardware_compatible: Annotated[
        str, typer.Option("--hardware-compatible", help="none, ampere-plus or same-compute-capability.")
    ] = "none",
    refit: Annotated[bool, typer.Option("--refit", help="Weights can be replaced later.")] = False,
    strip: Annotated[bool, typer.Option("--strip", help="Leave the weights out of the plan.")] = False,
    builds: Annotated[int, typer.Option(help="Times to build; the fastest plan is kept.")] = 1,
    timing_cache: Annotated[
        bool,
        typer.Option("--timing-cache/--no-timing-cache", help="Keep what the builder measured, for the next build."),
    ] = True,
    allow_fallback: Annotated[
        bool, typer.Option("--allow-fallback", help="Accept an engine without the precision asked for.")
    ] = False,
    beside: Annotated[
        str, typer.Option(help="Beside an int8 engine: fp16, so that the faster can be named, or none.")
    ] = "fp16",
    optimize: Annotated[
        str, typer.Option(help="For ONNX Runtime, optimized offline: none or basic, which hold on any machine.")
    ] = "none",
    cuda_graph: Annotated[
        bool, typer.Option("--cuda-graph", help="Of ort-cuda and ort-trt: capture and replay the whole graph.")
    ] = False,
    data: o.Data = None,
    images: Annotated[
        int, typer.Option(help="Pictures of --data at most, whose ranges decide what a cast keeps.")
    ] = 64,
    size: o.Size = None,
    gpu: Annotated[int, typer.Option(help="Index of the GPU.")] = 0,
    seed: o.Seed = 0,
    allow_code: o.AllowCode = False,
    skip_broken: o.SkipBroken = False,
    config: o.ConfigFile = None,
    force: o.Force = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    json: o.Json = False,
) -> None:
    """Build an engine from an ONNX file, check its precision, and say in its manifest what it is."""
    with running("build", quiet=quiet, debug=debug, as_json=json) as run:
        from deploykit.cli.stage import needed, stage_arguments
        from deploykit.commands.build import build
        from deploykit.config.build import BuildConfig
        from deploykit.config.common import build as checked

        if config is not None:
            result = build(**stage_arguments(config, "build", BuildConfig), force=force, progress=run.progress)
        else:
            fields = {
                "target": target,
                "precision": precision,
                "profiles": profile or (),
                "batch": batch,
                "compute_capabilities": compute_capability or (),
                "level": level,
                "workspace_mib": workspace_mib,
                "sparse": sparse,
                "version_compatible": version_compatible,
                "hardware_compatible": hardware_compatible,
                "refit": refit,
                "strip": strip,
                "builds": builds,
                "timing_cache": timing_cache,
                "allow_fallback": allow_fallback,
                "beside": beside,
                "optimize": optimize,
                "cuda_graph": cuda_graph,
                "data": data,
                "images": images,
                "size": size,
                "device": gpu,
                "seed": seed,
                "allow_code": allow_code,
                "skip_broken": skip_broken,
            }
            settings = checked(BuildConfig, fields)
            result = build(needed(model, "MODEL"), output, settings, force=force, progress=run.progress)
        run.finish(result.to_dict(), result.summary())
