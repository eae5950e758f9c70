"""Configuration of one run of a recipe."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from deploykit.config.command import Argument, Command, output
from deploykit.config.common import Config
from deploykit.config.flag import Flag
from deploykit.config.options import AllowCode


class RunConfig(Config):
    """How a recipe is run; what is run stands in the recipe."""

    changes: Annotated[tuple[str, ...], Flag("--set", metavar="KEY=VALUE")] = Field(
        default=(), description="Replace a value of the recipe: train.epochs=3."
    )
    dry_run: bool = Field(default=False, description="Only show what would be done.")
    remeasure: bool = Field(default=False, description="Time all variants again.")
    wait: Annotated[bool, Flag("--no-wait")] = Field(
        default=True, description="Stop where another run holds the folder, instead of waiting for it."
    )
    allow_code: AllowCode = False


COMMAND = Command(
    "Run a recipe: train, export, verify and measure all its variants. What was done before is not done again.",
    RunConfig,
    (
        Argument("recipe", "A recipe file, or the name of a shipped one (quickstart)."),
        output("The run folder; default: runs/NAME."),
    ),
)
