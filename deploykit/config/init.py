"""Configuration of writing a first recipe."""

from __future__ import annotations

from pydantic import Field

from deploykit.config.common import Config


class InitConfig(Config):
    """What the recipe is for.

    Attributes:
        data: a data name.
        name: of the recipe; None: made from the model's.
        arch: what the tensors of a model file are, where that cannot be recognised.
        size: input size in pixels where neither model nor data carry one.
        allow_code: ``module:…`` models and data may run.
    """

    data: str
    name: str | None = None
    arch: str | None = None
    size: int | None = Field(None, ge=1)
    allow_code: bool = False
