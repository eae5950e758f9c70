"""``deploykit doctor``."""

from __future__ import annotations

from typing import Annotated

import typer

from deploykit.cli import options as o
from deploykit.cli.runtime import running


def command(
    require: Annotated[
        list[str] | None,
        typer.Option(
            "--require", metavar="NAME", help="End with exit code 4 where NAME does not work here. Repeatable."
        ),
    ] = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    json: o.Json = False,
) -> None:
    """Tell what this machine can do, and how to mend what it cannot."""
    with running("doctor", quiet=quiet, debug=debug, as_json=json) as run:
        from deploykit.commands.doctor import doctor

        result = doctor(tuple(require or ()), progress=run.progress)
        status, code = ("unavailable", 4) if result.lacking else ("ok", 0)
        run.finish(result.to_dict(), result.summary(), status=status, exit_code=code)
