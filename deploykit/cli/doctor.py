"""``deploykit doctor``."""

from __future__ import annotations

import sys
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
        trouble = result.trouble()
        if trouble is None:
            run.finish(result.to_dict(), result.summary())
        else:
            print(f"deploykit doctor: {trouble.line()}", file=sys.stderr)
            told = {"error": trouble.line(), "exit_code": trouble.exit_code}
            run.finish(
                {**told, **result.to_dict()}, result.summary(), status=trouble.status, exit_code=trouble.exit_code
            )
