"""``deploykit predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploykit.cli import options as o
from deploykit.cli.runtime import running


def command(
    artifact: Annotated[str, typer.Argument(metavar="FILE", help="A model or engine: [NAME=]PATH[@TARGET].")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE…", help="Picture files or folders of pictures.")],
    top: Annotated[int, typer.Option(help="Number of classes told for each picture.")] = 5,
    annotate: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write copies with the label drawn on them.", show_default=False)
    ] = None,
    batch: o.Batch = 16,
    size: o.Size = None,
    threads: o.Threads = None,
    device: o.Device = "auto",
    skip_broken: o.SkipBroken = False,
    allow_code: o.AllowCode = False,
    force: o.Force = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    json: o.Json = False,
) -> None:
    """Name what pictures show, with any artifact and its own preprocessing."""
    with running("predict", quiet=quiet, debug=debug, as_json=json) as run:
        from deploykit.commands.predict import predict
        from deploykit.config.common import build
        from deploykit.config.predict import PredictConfig

        fields = dict(
            top=top,
            batch=batch,
            size=size,
            threads=threads,
            device=device,
            skip_broken=skip_broken,
            allow_code=allow_code,
        )
        config = build(PredictConfig, fields)
        result = predict(artifact, images, annotate, config, force=force, progress=run.progress)
        run.finish(result.to_dict(), result.summary())
