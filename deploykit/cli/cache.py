"""``deploykit cache``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploykit.cli import options as o
from deploykit.cli.runtime import running


def command(
    action: Annotated[str, typer.Argument(help="list, or clean: remove results that no run folder uses now.")] = "list",
    folder: Annotated[Path, typer.Argument(help="Where run folders lie, at any depth.")] = Path(),
    everything: Annotated[
        bool, typer.Option("--all", help="Clean results in use, too, and the user's cache of hashes.")
    ] = False,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="Clean only what is older: 30min, 12h, 7d.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Really remove; without it clean only tells what it would.")
    ] = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    json: o.Json = False,
) -> None:
    """List and clean stored results."""
    with running("cache", quiet=quiet, debug=debug, as_json=json) as now:
        from deploykit.commands.cache import cache
        from deploykit.config.cache import CacheConfig
        from deploykit.config.common import build

        fields = dict(action=action, everything=everything, older_than_s=_seconds(older_than), yes=yes)
        result = cache(folder, build(CacheConfig, fields), progress=now.progress)
        now.finish(result.to_dict(), result.summary())


def _seconds(age: str | None) -> float | None:
    import re

    from deploykit.base.errors import BadInput

    if age is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h|d)", age.strip())
    if found is None:
        raise BadInput("--older-than", got=age, expected="a number with s, min, h or d, as in 12h")
    return float(found.group(1)) * {"s": 1, "min": 60, "h": 3600, "d": 86400}[found.group(2)]
