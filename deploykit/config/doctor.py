"""Configuration of the look at this machine."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from deploykit.config.command import Command
from deploykit.config.common import Config
from deploykit.config.flag import Flag


class DoctorConfig(Config):
    """What must work."""

    require: Annotated[tuple[str, ...], Flag(metavar="NAME")] = Field(
        default=(), description="End with exit code 4 where NAME does not work here."
    )


COMMAND = Command("Tell what this machine can do, and how to mend what it cannot.", DoctorConfig, force=False)
