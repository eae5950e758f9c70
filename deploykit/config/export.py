"""Configuration of the export to ONNX."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from deploykit.config.command import Argument, Command, output
from deploykit.config.flag import Flag, Panel
from deploykit.config.options import (
    Accept,
    AllowCode,
    Arch,
    FileFlags,
    MinAgreement,
    MinSnrDb,
    Seed,
    Threads,
    data_help,
)


class ExportConfig(FileFlags):
    """One export."""

    opset: int = Field(default=20, ge=13, le=25, description="ONNX opset.")
    batch: Literal["dynamic"] | Annotated[int, Field(ge=1)] = Field(
        default="dynamic", description="dynamic, or the only batch size the file shall take."
    )
    embed_preprocessing: bool = Field(default=False, description="Input uint8 NHWC, normalised in the graph.")
    exporter: Literal["auto", "dynamo", "torchscript"] = Field(
        default="auto", description="auto tries dynamo first, and torchscript where it fails or disagrees."
    )
    precision: Annotated[Literal["fp32", "fp16", "bf16"], Panel("Precision")] = Field(
        default="fp32", description="Of the file; fp16 and bf16 keep in float32 what the measured ranges forbid."
    )
    keep_io: bool = Field(
        default=False, description="Inputs and outputs of a 16-bit file stay float32 (those of bf16 always do)."
    )
    keep_float: tuple[str, ...] = Field(
        default=(), description="A node or operator of a 16-bit file that stays float32."
    )
    images: int = Field(
        default=64, ge=1, description="Pictures of train whose ranges are measured for a 16-bit file, at most."
    )
    min_agreement: Annotated[MinAgreement, Panel("Bars of a 16-bit file")] = None
    min_snr_db: Annotated[MinSnrDb, Flag("--min-snr-db")] = None
    accept: Accept = False
    data: Annotated[str | None, Panel("Verification")] = Field(
        default=None,
        description=data_help("Verify on this, instead of the file's own samples or else synthetic pictures"),
    )
    require_real: bool = Field(default=False, description="Refuse to verify on synthetic pictures.")
    threads: Threads = None
    seed: Seed = 0
    arch: Annotated[Arch, Flag(allows_code=True), Panel("Model")] = None
    allow_code: AllowCode = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        of_cast = ("keep_io", "keep_float", "min_agreement", "min_snr_db", "accept")
        given = [name for name in of_cast if getattr(self, name) not in (None, False, ())]
        if self.precision == "fp32" and given:
            raise ValueError(f"of a 16-bit file alone: {', '.join(given)}; set precision to fp16 or bf16")
        return self


COMMAND = Command(
    "Export a model to ONNX and verify the file against PyTorch before it is called done.",
    ExportConfig,
    (Argument("model", "A model file: .pt, .pth, .safetensors, .pt2; or an .onnx to cast."), output()),
    stored=True,
)
