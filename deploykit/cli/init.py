"""``deploykit init``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploykit.cli import options as o
from deploykit.cli.runtime import running


def command(
    model: Annotated[str, typer.Argument(help="A model file, or SOURCE:NAME of an architecture to train.")],
    data: Annotated[
        str,
        typer.Option(
            "--data", help="Folder, digits, synthetic:SEED, cifar10:ROOT, FILE.csv, FILE.npz, module:function."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The recipe; default: recipe.yaml.", show_default=False)
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the recipe and its run folder.")] = None,
    arch: Annotated[str | None, typer.Option(help="What the tensors are, where that cannot be recognised.")] = None,
    size: o.Size = None,
    force: o.Force = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    json: o.Json = False,
) -> None:
    """Write a commented recipe for a model and data, after a look at both."""
    with running("init", quiet=quiet, debug=debug, as_json=json) as now:
        from deploykit.commands.init import init
        from deploykit.config.common import build
        from deploykit.config.init import InitConfig

        fields = dict(data=data, name=name, arch=arch, size=size, allow_code=True)
        config = build(InitConfig, fields)
        result = init(model, output, config, force=force, progress=now.progress)
        now.finish(result.to_dict(), result.summary())
