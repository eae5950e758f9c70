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
    layers: Annotated[
        bool,
        typer.Option(
            "--layers",
            help="Profile the engines here, layer by layer: of one run its variants, of two before and after.",
        ),
    ] = False,
    force: o.Force = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    json: o.Json = False,
) -> None:
    """Write report.html and report.md again from a report.json; of several reports a comparison over time and machines."""
    with running("report", quiet=quiet, debug=debug, as_json=json) as run:
        if layers:
            from deploykit.benchmarking.layer_profiles import layers as profile_layers
            from deploykit.cli.stage import needed

            profiled = profile_layers(source, needed(output, "-o"), force=force, progress=run.progress)
            run.finish(profiled.to_dict(), profiled.summary())
            return
        from deploykit.commands.report import report

        result = report(source, output, force=force, progress=run.progress)
        run.finish(result.to_dict(), result.summary())
