"""``deploykit report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploykit.cli import options as o
from deploykit.cli.runtime import running


def command(
    source: Annotated[
        list[Path], typer.Argument(metavar="RUN_FOLDER|REPORT.json…", help="One report, or several to compare.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder of the pages; default: beside the one report.", show_default=False),
    ] = None,
    force: o.Force = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    json: o.Json = False,
) -> None:
    """Write report.html and report.md again from a report.json; of several reports a comparison over time and machines."""
    with running("report", quiet=quiet, debug=debug, as_json=json) as run:
        from deploykit.commands.report import report

        result = report(source, output, force=force, progress=run.progress)
        run.finish(result.to_dict(), result.summary())
