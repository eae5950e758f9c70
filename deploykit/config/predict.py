"""Configuration of prediction."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from deploykit.config.common import Config


class PredictConfig(Config):
    """How pictures are named.

    Attributes:
        top: number of classes told for each picture, the most probable first.
        batch: pictures per call; an engine with a fixed batch takes its own.
        size: input size where the artifact carries none.
        threads: of the runner.
        device: of torch runners.
        skip_broken: leave out pictures that cannot be read, naming them.
        allow_code: ``module:…`` models may run.
    """

    top: int = Field(5, ge=1)
    batch: int = Field(16, ge=1)
    size: int | None = Field(None, ge=1)
    threads: int | None = Field(None, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    skip_broken: bool = False
    allow_code: bool = False
