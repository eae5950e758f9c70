"""``deploykit gate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploykit.cli import options as o
from deploykit.cli.runtime import running


def command(
    report: Annotated[Path, typer.Argument(metavar="RUN_FOLDER|REPORT.json", help="The report to judge.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Folder for gate.json, gate.md (the comment), JUnit, and the formats of GitLab, github-action-benchmark "
            "and Bencher; default: nothing is written.",
            show_default=False,
        ),
    ] = None,
    policy: Annotated[str, typer.Option(help="A policy file, or the name of a shipped one.")] = "default",
    baseline: Annotated[
        Path | None, typer.Option(help="An older report or its run folder, to compare with.", show_default=False)
    ] = None,
    retry: Annotated[
        int, typer.Option(help="Measure again up to so many times where limits on speed are undecided.")
    ] = 0,
    retry_time: Annotated[float, typer.Option("--retry-time", help="Seconds of each of these measurements.")] = 30.0,
    data: o.Data = None,
    annotations: Annotated[
        str, typer.Option(help="GitHub's annotations and step summary: auto, github or none.")
    ] = "auto",
    force: o.Force = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    json: o.Json = False,
) -> None:
    """Judge a report: exit 0 where every limit of the policy holds, 1 where one is broken, 3 where the numbers cannot tell."""
    with running("gate", quiet=quiet, debug=debug, as_json=json) as run:
        from deploykit.commands.gate import gate
        from deploykit.config.common import build
        from deploykit.config.gate import GateConfig

        fields = {
            "policy": policy,
            "baseline": None if baseline is None else str(baseline),
            "retry": retry,
            "retry_time_s": retry_time,
            "data": data,
            "annotations": annotations,
        }
        result = gate(report, output, build(GateConfig, fields), force=force, progress=run.progress)
        run.finish(result.to_dict(), result.summary(), status=result.status, exit_code=result.exit_code)
