"""Configuration of the look at one file."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from deploykit.base.targets import ON_ONNX
from deploykit.config.command import Argument, Command
from deploykit.config.flag import Flag
from deploykit.config.options import AllowCode, Arch, FileFlags, Shapes


class InspectConfig(FileFlags):
    """What is told of a file."""

    layers: bool = Field(default=False, description="List every layer with precision, parameters and MACs.")
    times: bool = Field(
        default=False, description="Run an .onnx or engine here, and list the layers that it runs with their time."
    )
    target: Annotated[str | None, Flag(choices=ON_ONNX)] = Field(
        default=None, description="What runs an .onnx for --times."
    )
    threads: int | None = Field(default=None, description="CPU threads.")
    arch: Annotated[Arch, Flag(allows_code=True)] = None
    shapes: Shapes = Field(default_factory=dict)
    allow_code: AllowCode = False


COMMAND = Command(
    "Tell what a file is: architecture, parameters, inputs, precision, preprocessing, classes, lineage.",
    InspectConfig,
    (Argument("file", "A .pt, .pth, .safetensors, .pt2, .onnx, engine, manifest or report.json."),),
    force=False,
)
