"""``deploykit verify``."""

from __future__ import annotations

from typing import Annotated

import typer

from deploykit.cli import options as o
from deploykit.cli.runtime import running


def command(
    reference: Annotated[str | None, typer.Argument(help="What is right: [NAME=]PATH[@TARGET[:key=value,…]].")] = None,
    candidate: Annotated[str | None, typer.Argument(help="What is judged, named in the same way.")] = None,
    data: o.Data = None,
    split: Annotated[str, typer.Option(help="train, select or test.")] = "test",
    limit: Annotated[int, typer.Option(help="Number of pictures at most.")] = 256,
    batch: Annotated[
        list[int] | None, typer.Option("--batch", help="Batch size; repeat for several.", show_default="1, 2, 8")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Whose budget applies; default: the second artifact's.", show_default=False)
    ] = None,
    bisect: Annotated[
        bool, typer.Option("--bisect", help="On a failure find the first layer where they part.")
    ] = False,
    require_real: Annotated[bool, typer.Option("--require-real", help="Refuse synthetic pictures.")] = False,
    size: o.Size = None,
    threads: o.Threads = None,
    device: o.Device = "auto",
    seed: o.Seed = 0,
    allow_code: o.AllowCode = False,
    config: o.ConfigFile = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    json: o.Json = False,
) -> None:
    """Tell whether two artifacts compute the same: exit 0 where parity holds, 1 where it does not."""
    with running("verify", quiet=quiet, debug=debug, as_json=json) as run:
        from deploykit.cli.stage import needed, stage_arguments
        from deploykit.commands.verify import verify
        from deploykit.config.benchmark import VerifyConfig
        from deploykit.config.common import build

        if config is not None:
            result = verify(**stage_arguments(config, "verify", VerifyConfig), progress=run.progress)
        else:
            fields = dict(
                data=data,
                split=split,
                limit=limit,
                batches=tuple(batch) if batch else (1, 2, 8),
                precision=precision,
                bisect=bisect,
                require_real=require_real,
                size=size,
                threads=threads,
                device=device,
                seed=seed,
                allow_code=allow_code,
            )
            result = verify(
                needed(reference, "REFERENCE"),
                needed(candidate, "CANDIDATE"),
                build(VerifyConfig, fields),
                progress=run.progress,
            )
        run.finish(
            result.to_dict(),
            result.summary(),
            status="ok" if result.ok else "failed",
            exit_code=0 if result.ok else 1,
        )
