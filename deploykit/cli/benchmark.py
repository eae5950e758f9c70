"""``deploykit benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploykit.cli import options as o
from deploykit.cli.runtime import running


def ratio(given: str) -> float:
    """``±1%``, ``1%`` or ``0.01`` as 0.01."""
    text = str(given).strip().removeprefix("±").removeprefix("+-").strip()
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise typer.BadParameter(f"{given!r} is no ratio; expected 0.01, 1% or ±1%") from None


def command(
    artifacts: Annotated[
        list[str] | None,
        typer.Argument(help="What to measure: [NAME=]PATH[@TARGET[:key=value,…]], or a run folder, to measure again."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Run folder for report, samples and logits; default: nothing is written.",
            show_default=False,
        ),
    ] = None,
    data: o.Data = None,
    split: Annotated[str, typer.Option(help="train, select or test.")] = "test",
    baseline: Annotated[
        str | None,
        typer.Option(help="Name of the variant the others are compared with; default: fp32, else the first."),
    ] = None,
    batch: o.Batch = 1,
    threads: Annotated[int, typer.Option("--threads", help="CPU threads of each timed variant.")] = 1,
    until: Annotated[
        float,
        typer.Option(
            parser=ratio,
            metavar="RATIO",
            help="Stop when every speed-up interval is narrower than plus or minus this: 0.01, 1%, ±1%.",
        ),
    ] = 0.02,
    max_time: Annotated[
        float, typer.Option("--max-time", help="Stop timing after so many seconds at the latest.")
    ] = 60.0,
    min_blocks: Annotated[int, typer.Option(help="Blocks of each variant at least, before --until counts.")] = 20,
    block_ms: Annotated[float, typer.Option(help="Length of a block in ms; at least 5 calls.")] = 50.0,
    end_to_end: Annotated[
        bool, typer.Option("--end-to-end/--compute-only", help="Time preprocessing and copies too.")
    ] = True,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="REF",
            help="Run folder, bundle (.zip, .tar), or git REVISION[:PATH]: measure its variants of the same names too.",
        ),
    ] = None,
    scenario: Annotated[
        list[str] | None,
        typer.Option(help="multi_stream, offline or server, besides single_stream. Repeatable."),
    ] = None,
    multi_stream_images: Annotated[int, typer.Option(help="Pictures of one multi_stream query.")] = 8,
    server_bound_ms: Annotated[
        float, typer.Option(help="What p99 keeps in the server scenario, whose highest such rate is searched.")
    ] = 15.0,
    sweep: Annotated[
        list[str] | None, typer.Option(help="batch or threads: 1, 2, 4 … while it pays. Repeatable.")
    ] = None,
    builds: Annotated[int, typer.Option(help="Load each variant so many times; blocks alternate between them.")] = 1,
    max_drop_pt: Annotated[float, typer.Option(help="How much top-1 the pick may lose, in percentage points.")] = 1.0,
    limit: Annotated[int | None, typer.Option(help="Number of pictures for accuracy; default: all.")] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="MODULE:FUNCTION", help="Your function(logits, labels) -> float. Repeatable."),
    ] = None,
    corruptions: Annotated[
        bool, typer.Option("--corruptions", help="Evaluate noisy, blurred, bright, dark and JPEG-ed pictures too.")
    ] = False,
    corruption_images: Annotated[int, typer.Option(help="Number of pictures for --corruptions.")] = 500,
    eval_batch: Annotated[int, typer.Option(help="Batch size of the accuracy runs.")] = 64,
    ci_level: Annotated[float, typer.Option(help="Level of all intervals.")] = 0.95,
    size: o.Size = None,
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
    """Verify, judge and time models and engines together, and say which one to deploy."""
    with running("benchmark", quiet=quiet, debug=debug, as_json=json) as run:
        from deploykit.cli.stage import needed, stage_arguments
        from deploykit.commands.benchmark import benchmark
        from deploykit.commands.evaluate import refuse_stored_code
        from deploykit.config.benchmark import BenchmarkConfig
        from deploykit.config.common import build

        if config is not None:
            arguments = stage_arguments(config, "benchmark", BenchmarkConfig)
            refuse_stored_code(arguments["config"], str(config))
            if arguments.get("output") is not None:
                arguments["output"] = Path(arguments["output"])
            result = benchmark(**arguments, force=force, progress=run.progress)
        else:
            fields = dict(
                data=needed(data, "--data"),
                split=split,
                baseline=baseline,
                batch=batch,
                threads=threads,
                until=until,
                max_time_s=max_time,
                min_blocks=min_blocks,
                block_ms=block_ms,
                end_to_end=end_to_end,
                against=against,
                scenarios=tuple(scenario or ()),
                multi_stream_images=multi_stream_images,
                server_bound_ms=server_bound_ms,
                sweeps=tuple(sweep or ()),
                builds=builds,
                max_drop_pt=max_drop_pt,
                limit=limit,
                metrics=tuple(metric or ()),
                corruptions=corruptions,
                corruption_images=corruption_images,
                eval_batch=eval_batch,
                ci_level=ci_level,
                size=size,
                device=device,
                seed=seed,
                skip_broken=skip_broken,
                allow_code=allow_code,
            )
            result = benchmark(
                needed(artifacts, "ARTIFACT"),
                output,
                build(BenchmarkConfig, fields),
                force=force,
                progress=run.progress,
            )
        status, code = ("ok", 0) if result.ok else ("failed", 1)
        run.finish(result.to_dict(), result.summary(), status=status, exit_code=code)
