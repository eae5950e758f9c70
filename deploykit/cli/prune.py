"""``deploykit prune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from deploykit.cli import options as o
from deploykit.cli.runtime import running


def command(
    model: Annotated[Path | None, typer.Argument(help="A model file (.pt, .safetensors).")] = None,
    output: o.Output = None,
    macs: Annotated[float | None, typer.Option(help="Fraction of the multiply-accumulates that is kept.")] = None,
    params: Annotated[float | None, typer.Option(help="Fraction of the parameters that is kept.")] = None,
    latency: Annotated[
        float | None, typer.Option(help="Fraction of the latency on --target that is kept (fp32, batch 1, 1 thread).")
    ] = None,
    target: Annotated[
        str, typer.Option(help="Where --latency is measured: ort-cpu, openvino, ort-cuda, tensorrt or tensorrt-rtx.")
    ] = "ort-cpu",
    data: o.Data = None,
    importance: Annotated[
        str, typer.Option(help="l2, l1, bn-scale, fpgm, lamp, random; with --data taylor, hessian, activation.")
    ] = "l2",
    scope: Annotated[
        str,
        typer.Option(
            help="Channels compete within their layer (local), global, or isomorphic (like structures); "
            "allocated: within their layer, each layer as wide as its channels are worth what they cost."
        ),
    ] = "local",
    round_to: Annotated[
        str, typer.Option("--round-to", help="Multiple that widths keep; auto: 16, 8 or 4 by width.")
    ] = "auto",
    keep: Annotated[
        list[str] | None, typer.Option("--keep", help="Layer or module whose channels all stay; may be repeated.")
    ] = None,
    ratio: Annotated[
        list[str] | None, typer.Option("--ratio", help="LAYER=FRACTION of its channels kept; may be repeated.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Prune in so many steps, scoring anew at each.")] = 1,
    recalibrate: Annotated[
        bool, typer.Option("--recalibrate/--no-recalibrate", help="Estimate BatchNorm anew from --data after a step.")
    ] = True,
    pattern: Annotated[
        str | None, typer.Option(help="2:4 zeroes two of four weights in the layers a sparse engine can use.")
    ] = None,
    unstructured: Annotated[
        float | None, typer.Option(help="Experiment: fraction of single weights kept; no engine here is faster for it.")
    ] = None,
    layer_times: Annotated[
        bool, typer.Option("--layer-times", help="Measure each layer before and after on ort-cpu, for the table.")
    ] = False,
    images: Annotated[int, typer.Option(help="Training pictures for criteria and BatchNorm.")] = 512,
    batch: o.Batch = 64,
    threads: o.Threads = None,
    device: o.Device = "auto",
    size: o.Size = None,
    arch: Annotated[str | None, typer.Option(help="What the tensors are, where that cannot be recognised.")] = None,
    seed: o.Seed = 0,
    allow_code: o.AllowCode = False,
    skip_broken: o.SkipBroken = False,
    config: o.ConfigFile = None,
    force: o.Force = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    json: o.Json = False,
) -> None:
    """Remove channels from a model until it costs at most a fraction of what it did; the file loads like any other."""
    with running("prune", quiet=quiet, debug=debug, as_json=json) as run:
        from deploykit.cli.stage import needed, stage_arguments
        from deploykit.commands.prune import prune
        from deploykit.config.common import build
        from deploykit.config.prune import PruneConfig

        if config is not None:
            result = prune(**stage_arguments(config, "prune", PruneConfig), force=force, progress=run.progress)
        else:
            fields = {
                "macs": macs,
                "params": params,
                "latency": latency,
                "target": target,
                "data": data,
                "importance": importance,
                "scope": scope,
                "round_to": int(round_to) if round_to.lstrip("-").isdecimal() else round_to,
                "keep": keep or (),
                "ratios": _ratios(ratio or []),
                "steps": steps,
                "recalibrate": recalibrate,
                "pattern": pattern,
                "unstructured": unstructured,
                "layer_times": layer_times,
                "images": images,
                "batch": batch,
                "threads": threads,
                "device": device,
                "size": size,
                "arch": arch,
                "seed": seed,
                "allow_code": allow_code,
                "skip_broken": skip_broken,
            }
            settings = build(PruneConfig, fields)
            result = prune(needed(model, "MODEL"), output, settings, force=force, progress=run.progress)
        run.finish(result.to_dict(), result.summary())


def _ratios(texts: list[str]) -> dict[str, Any]:
    from deploykit.base.errors import BadInput

    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            ratio = float(value)
        except ValueError:
            equals = ""
        if not equals or not name:
            raise BadInput(f"cannot read --ratio {text!r}", expected="LAYER=FRACTION (layer1.0.conv1=0.5)")
        if name in found:
            raise BadInput(
                f"--ratio names {name} twice", got=f"{found[name]:g} and {ratio:g}", expected="one ratio for a layer"
            )
        found[name] = ratio
    return found
