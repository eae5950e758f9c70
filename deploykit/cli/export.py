"""``deploykit export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploykit.cli import options as o
from deploykit.cli.runtime import running


def command(
    model: Annotated[
        Path | None, typer.Argument(help="A model file: .pt, .pth, .safetensors, .pt2; or an .onnx to cast.")
    ] = None,
    output: o.Output = None,
    opset: Annotated[int, typer.Option(help="ONNX opset.")] = 20,
    batch: Annotated[str, typer.Option(help="dynamic, or the only batch size the file shall take.")] = "dynamic",
    size: o.Size = None,
    embed_preprocessing: Annotated[
        bool, typer.Option("--embed-preprocessing", help="Input uint8 NHWC, normalised in the graph.")
    ] = False,
    exporter: Annotated[str, typer.Option(help="auto, dynamo or torchscript.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, or fp16 or bf16 where measured ranges allow it.")] = "fp32",
    keep_io: Annotated[
        bool, typer.Option("--keep-io", help="Inputs and outputs of a 16-bit file stay float32.")
    ] = False,
    keep_float: Annotated[
        list[str] | None, typer.Option(help="A node or operator that stays float32; may be repeated.")
    ] = None,
    images: Annotated[int, typer.Option(help="Pictures of train whose ranges are measured, at most.")] = 64,
    data: o.Data = None,
    require_real: Annotated[
        bool, typer.Option("--require-real", help="Refuse to verify on synthetic pictures.")
    ] = False,
    arch: Annotated[
        str | None, typer.Option(help="What the tensors are, where that cannot be recognised (torchvision:resnet18).")
    ] = None,
    threads: o.Threads = None,
    seed: o.Seed = 0,
    allow_code: o.AllowCode = False,
    config: o.ConfigFile = None,
    force: o.Force = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    json: o.Json = False,
) -> None:
    """Export a model to ONNX and verify the file against PyTorch before it is called done."""
    with running("export", quiet=quiet, debug=debug, as_json=json) as run:
        from deploykit.cli.stage import needed, stage_arguments
        from deploykit.commands.export import export
        from deploykit.config.common import build
        from deploykit.config.export import ExportConfig

        if config is not None:
            result = export(**stage_arguments(config, "export", ExportConfig), force=force, progress=run.progress)
        else:
            fields = dict(
                opset=opset,
                batch=batch,
                size=size,
                embed_preprocessing=embed_preprocessing,
                exporter=exporter,
                precision=precision,
                keep_io=keep_io,
                keep_float=tuple(keep_float or ()),
                images=images,
                data=data,
                require_real=require_real,
                arch=arch,
                threads=threads,
                seed=seed,
                allow_code=allow_code or (arch or "").startswith("module:"),  # named here is allowed
            )
            result = export(
                needed(model, "MODEL"),
                output,
                build(ExportConfig, fields),
                force=force,
                progress=run.progress,
            )
        run.finish(result.to_dict(), result.summary())
