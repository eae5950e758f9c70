"""Configuration of the export to ONNX."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from deploykit.config.common import Config


class ExportConfig(Config):
    """One export.

    Attributes:
        opset: of the ONNX file.
        batch: ``dynamic``, or the only batch size the file shall take.
        size: input size in pixels where the model file does not carry it.
        embed_preprocessing: put the normalisation into the graph (input uint8 NHWC).
        exporter: ``auto`` tries the dynamo exporter first and the TorchScript one where it fails or disagrees.
        precision: of the file; fp16 and bf16 keep in float32 what the measured ranges forbid.
        keep_io: a 16-bit file's inputs and outputs stay float32 (those of bf16 always do: numpy has no such type).
        keep_float: names of nodes, or of operators, of a 16-bit file that stay float32.
        images: pictures of ``train`` whose ranges are measured for a 16-bit file, at most.
        data: verify on this data; None: the file's own samples, else seeded synthetic pictures (said).
        require_real: verification on synthetic pictures is an error.
        arch: what the tensors are, where recognition cannot tell (``torchvision:resnet18``).
        allow_code: ``module:…`` models may run.
        seed: of the synthetic pictures.
        threads: of the verification.
    """

    opset: int = Field(20, ge=13, le=25)
    batch: Literal["dynamic"] | Annotated[int, Field(ge=1)] = "dynamic"
    size: int | None = Field(None, ge=1)
    embed_preprocessing: bool = False
    exporter: Literal["auto", "dynamo", "torchscript"] = "auto"
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    keep_io: bool = False
    keep_float: tuple[str, ...] = ()
    images: int = Field(64, ge=1)
    data: str | None = None
    require_real: bool = False
    arch: str | None = None
    allow_code: bool = False
    seed: int = Field(0, ge=0)
    threads: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.precision == "fp32" and (self.keep_io or self.keep_float):
            raise ValueError("keep_io and keep_float are of a 16-bit file: set precision to fp16 or bf16")
        return self
