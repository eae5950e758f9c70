"""``deploykit run``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploykit.cli import options as o
from deploykit.cli.runtime import running


def command(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped one (quickstart).")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The run folder; default: runs/NAME.", show_default=False)
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the recipe: train.epochs=3. Repeatable."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    remeasure: Annotated[bool, typer.Option("--remeasure", help="Time all variants again.")] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Stop where another run holds the folder, instead of waiting for it.")
    ] = False,
    allow_code: o.AllowCode = False,
    force: o.Force = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    json: o.Json = False,
) -> None:
    """Run a recipe: train, export, verify and measure all its variants. What was done before is not done again."""
    with running("run", quiet=quiet, debug=debug, as_json=json) as now:
        from deploykit.config.common import build
        from deploykit.config.run import RunConfig
        from deploykit.pipeline import run

        fields = dict(
            changes=tuple(changes or ()),
            dry_run=dry_run,
            remeasure=remeasure,
            wait=not no_wait,
            allow_code=allow_code,
        )
        config = build(RunConfig, fields)
        result = run(recipe, output, config, force=force, progress=now.progress)
        now.finish(result.to_dict(), result.summary(), status=result.status, exit_code=result.exit_code)
