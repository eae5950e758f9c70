"""``deploykit inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploykit.cli import options as o
from deploykit.cli.runtime import running


def command(
    file: Annotated[
        Path, typer.Argument(help="A .pt, .pth, .safetensors, .pt2, .onnx, engine, manifest or report.json.")
    ],
    layers: Annotated[
        bool, typer.Option("--layers", help="List every layer with precision, parameters and MACs.")
    ] = False,
    times: Annotated[
        bool,
        typer.Option("--times", help="Run an .onnx or engine here, and list the layers that it runs with their time."),
    ] = False,
    target: Annotated[
        str | None, typer.Option(help="What runs an .onnx for --times: ort-cpu, ort-cuda, ort-trt or openvino.")
    ] = None,
    threads: o.Threads = None,
    arch: Annotated[
        str | None, typer.Option(help="What the tensors are, where that cannot be recognised (torchvision:resnet18).")
    ] = None,
    size: o.Size = None,
    allow_code: o.AllowCode = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    json: o.Json = False,
) -> None:
    """Tell what a file is: architecture, parameters, inputs, precision, preprocessing, classes, lineage."""
    with running("inspect", quiet=quiet, debug=debug, as_json=json) as run:
        from deploykit.commands.inspect import inspect

        named_code = (
            arch is not None and ":" in arch and arch.partition(":")[0] not in ("deploykit", "torchvision", "timm")
        )
        result = inspect(
            file,
            layers=layers,
            times=times,
            target=target,
            threads=threads,
            arch=arch,
            size=size,
            allow_code=allow_code or named_code,
        )
        run.finish(result.to_dict(), result.summary())
