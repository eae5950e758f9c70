"""Configuration of listing and cleaning stores."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from deploykit.config.command import Argument, Command
from deploykit.config.common import Config
from deploykit.config.flag import Flag
from deploykit.config.texts import seconds


class CacheConfig(Config):
    """What to list or remove."""

    action: Annotated[Literal["list", "clean"], Flag(metavar="ACTION", positional=True)] = Field(
        default="list", description="list, or clean: remove results that no run folder uses now."
    )
    everything: Annotated[bool, Flag("--all")] = Field(
        default=False, description="Clean results in use, too, and the user's cache of hashes."
    )
    older_than_s: Annotated[float | None, Flag("--older-than", metavar="AGE", parse=seconds)] = Field(
        default=None, ge=0, description="Clean only what is older: 30min, 12h, 7d."
    )
    yes: bool = Field(default=False, description="Really remove; without it clean only tells what it would.")


COMMAND = Command(
    "List and clean stored results.",
    CacheConfig,
    (Argument("folder", "Where run folders lie, at any depth.", default="."),),
    force=False,
)
