"""``deploykit evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploykit.cli import options as o
from deploykit.cli.runtime import running


def command(
    artifacts: Annotated[
        list[str] | None,
        typer.Argument(
            help="What to evaluate: [NAME=]PATH[@TARGET[:key=value,…]]; or a run folder, to judge its saved logits again."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Folder for the report and the logits; default: nothing is written.",
            show_default=False,
        ),
    ] = None,
    data: o.Data = None,
    split: Annotated[str, typer.Option(help="train, select or test.")] = "test",
    baseline: Annotated[
        str | None, typer.Option(help="Name of the artifact the others are compared with; default: the first.")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="MODULE:FUNCTION", help="Your function(logits, labels) -> float. Repeatable."),
    ] = None,
    corruptions: Annotated[
        bool, typer.Option("--corruptions", help="Evaluate noisy, blurred, bright, dark and JPEG-ed pictures too.")
    ] = False,
    corruption_images: Annotated[int, typer.Option(help="Number of pictures for --corruptions.")] = 500,
    batch: o.Batch = 64,
    limit: Annotated[int | None, typer.Option(help="Number of pictures at most; default: all.")] = None,
    ci_level: Annotated[float, typer.Option(help="Level of all intervals.")] = 0.95,
    size: o.Size = None,
    threads: o.Threads = None,
    device: o.Device = "auto",
    seed: o.Seed = 0,
    skip_broken: o.SkipBroken = False,
    allow_code: o.AllowCode = False,
    config: o.ConfigFile = None,
    force: o.Force = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    json: o.Json = False,
) -> None:
    """Measure the accuracy of models and engines on the same pictures, and what changed against a baseline."""
    with running("evaluate", quiet=quiet, debug=debug, as_json=json) as run:
        from deploykit.cli.stage import needed, stage_arguments
        from deploykit.commands.evaluate import evaluate, refuse_stored_code
        from deploykit.config.benchmark import EvaluateConfig
        from deploykit.config.common import build

        if config is not None:
            arguments = stage_arguments(config, "evaluate", EvaluateConfig)
            refuse_stored_code(arguments["config"], str(config))
            result = evaluate(**arguments, force=force, progress=run.progress)
        else:
            again = artifacts is not None and len(artifacts) == 1 and (Path(artifacts[0]) / "report.json").is_file()
            fields = dict(
                data=data if again else needed(data, "--data"),
                split=split,
                baseline=baseline,
                metrics=tuple(metric or ()),
                corruptions=corruptions,
                corruption_images=corruption_images,
                batch=batch,
                limit=limit,
                ci_level=ci_level,
                size=size,
                threads=threads,
                device=device,
                seed=seed,
                skip_broken=skip_broken,
                allow_code=allow_code,
            )
            result = evaluate(
                needed(artifacts, "ARTIFACT"),
                output,
                build(EvaluateConfig, fields),
                force=force,
                progress=run.progress,
            )
        if result.ok:
            run.finish(result.to_dict(), result.summary())
        else:
            run.finish(result.to_dict(), result.summary(), status="failed", exit_code=1)
