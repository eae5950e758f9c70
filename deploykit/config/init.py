"""Configuration of writing a first recipe."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from deploykit.config.command import Argument, Command, output
from deploykit.config.common import Config
from deploykit.config.flag import HIDDEN
from deploykit.config.options import AllowCode, Arch, Size, data_help


class InitConfig(Config):
    """What the recipe is for."""

    data: str = Field(description=data_help("What it is trained and judged on"))
    name: str | None = Field(
        default=None, description="Of the recipe and its run folder; default: made from the model's."
    )
    arch: Arch = None
    size: Size = None
    allow_code: Annotated[AllowCode, HIDDEN] = False


COMMAND = Command(
    "Write a commented recipe for a model and data, after a look at both.",
    InitConfig,
    (
        Argument("model", "A model file, or SOURCE:NAME of an architecture to train."),
        output("The recipe; default: recipe.yaml."),
    ),
)
