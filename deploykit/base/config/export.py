"""Configuration of the export to ONNX."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from deploykit.base.config.common import Config


class ExportConfig(Config):
    """One export.

    Attributes:
        opset: of the ONNX file.
        batch: ``dynamic``, or the only batch size the file shall take.
        size: input size in pixels where the model file does not carry it.
        embed_preprocessing: put the normalisation into the graph (input uint8 NHWC).
        exporter: ``auto`` tries the dynamo exporter first and the TorchScript one where it fails or disagrees.
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
    data: str | None = None
    require_real: bool = False
    arch: str | None = None
    allow_code: bool = False
    seed: int = Field(0, ge=0)
    threads: int | None = Field(None, ge=1)
