"""Configuration of writing a first recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from deploykit.base.targets import ORT_CPU, WITH_INT8
from deploykit.config.command import Argument, Command, output
from deploykit.config.flag import HIDDEN, Flag
from deploykit.config.options import AllowCode, Arch, FileFlags, data_help


class InitConfig(FileFlags):
    """What the recipe is for."""

    data: str = Field(description=data_help("What it is trained and judged on"))
    name: str | None = Field(
        default=None, description="Of the recipe and its run folder; default: made from the model's."
    )
    target: Annotated[str, Flag(choices=WITH_INT8)] = Field(default=ORT_CPU, description="What the variants run on.")
    goal: Literal["fast", "small", "accurate"] | None = Field(
        default=None,
        description="What counts most: half of the MACs, a third of the parameters, or at most 0.5 points of drop; "
        "default: int8, the pruned variants switched off.",
    )
    arch: Arch = None
    allow_code: Annotated[AllowCode, HIDDEN] = False


COMMAND = Command(
    "Write a commented recipe for a model and data, after a look at both.",
    InitConfig,
    (
        Argument("model", "A model file, or SOURCE:NAME of an architecture to train."),
        output("The recipe; default: recipe.yaml."),
    ),
)
