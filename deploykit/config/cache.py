"""Configuration of listing and cleaning stores."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from deploykit.config.common import Config


class CacheConfig(Config):
    """What to list or remove.

    Attributes:
        action: ``list`` or ``clean``.
        everything: remove results that a run folder uses now, too, and the user's cache.
        older_than_s: only what is older than this many seconds; None: of any age.
        yes: really remove; without it ``clean`` only tells what it would remove.
    """

    action: Literal["list", "clean"] = "list"
    everything: bool = False
    older_than_s: float | None = Field(None, ge=0)
    yes: bool = False
