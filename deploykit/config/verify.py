"""Configuration of verification."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, Field

from deploykit.config.command import Argument, Command
from deploykit.config.flag import Flag, Panel
from deploykit.config.options import (
    Accept,
    AllowCode,
    Device,
    FileFlags,
    MinAgreement,
    MinSnrDb,
    Seed,
    Shapes,
    Threads,
    data_help,
)


class VerifyConfig(FileFlags):
    """Parity of two artifacts."""

    batches: Annotated[tuple[int, ...], Flag("--batch")] = Field(
        default=(1, 2, 8), description="Batch size; those a fixed-batch engine cannot take are left out and said."
    )
    precision: Literal["fp32", "tf32", "fp16", "bf16", "fp8", "int8"] | None = Field(
        default=None, description="Whose budget applies; default: the second artifact's."
    )
    min_agreement: Annotated[MinAgreement, Panel("Bars")] = None
    min_snr_db: Annotated[MinSnrDb, Flag("--min-snr-db")] = None
    accept: Accept = False
    bisect: Annotated[bool, Panel("Search")] = Field(
        default=False, description="On a failure find the first layer where they part."
    )
    data: Annotated[str | None, Panel("Data")] = Field(
        default=None,
        description=data_help(
            "Compare on this, instead of either file's own samples or else synthetic images or random input"
        ),
    )
    split: Literal["train", "select", "test"] | None = Field(
        default=None,
        description="Of the data; default: train without what the second artifact was calibrated on, then select.",
    )
    images: Annotated[int, Flag(old="--limit")] = Field(
        default=1024,
        ge=1,
        description="Images at most; fewer are run where they settle it.",
        validation_alias=AliasChoices("images", "limit"),
    )
    shapes: Shapes = Field(default_factory=dict)
    require_real: bool = Field(default=False, description="Refuse synthetic pictures.")
    seed: Seed = 0
    threads: Annotated[Threads, Panel("Running")] = None
    device: Device = "auto"
    allow_code: AllowCode = False


COMMAND = Command(
    "Tell whether two artifacts compute the same: exit 0 where they do, 1 where they do not, 3 where more images are needed.",
    VerifyConfig,
    (
        Argument("reference", "What is right: [NAME=]PATH[@TARGET[:key=value,…]]."),
        Argument("candidate", "What is judged, named in the same way."),
    ),
    stored=True,
    force=False,
)
