"""``deploykit quantize``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploykit.cli import options as o
from deploykit.cli.runtime import running

QAT = "Training for int8 (--method qat)"


def command(
    model: Annotated[
        Path | None, typer.Argument(help="An .onnx file, or a model file, which is exported first.")
    ] = None,
    output: o.Output = None,
    data: o.Data = None,
    target: Annotated[
        str, typer.Option(help="Whose dialect: ort-cpu, ort-trt, tensorrt, tensorrt-rtx or openvino.")
    ] = "ort-cpu",
    lint: Annotated[
        bool,
        typer.Option("--lint", help="Only judge MODEL, a quantized .onnx, for --target; exit 1 where that breaks."),
    ] = False,
    method: Annotated[
        str, typer.Option(help="Of the ranges: auto, minmax, moving, percentile, entropy, mse; or qat.")
    ] = "auto",
    percentile: Annotated[float, typer.Option(help="Share of values that --method percentile keeps.")] = 99.99,
    ranges: Annotated[
        Path | None, typer.Option("--ranges", help="File of the calibration: read where it fits, else written.")
    ] = None,
    images: Annotated[int, typer.Option(help="Calibration pictures at most.")] = 256,
    batch: o.Batch = 8,
    keep_float: Annotated[
        list[str] | None, typer.Option("--keep-float", help="Name of a node that stays float; may be repeated.")
    ] = None,
    weight_bits: Annotated[
        int | None,
        typer.Option("--weight-bits", help="Width of weights, 2…8; default: what the target computes exactly."),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="Of what is not int8: fp32; fp16 or bf16 for TensorRT's targets.")
    ] = "fp32",
    equalize: Annotated[
        str, typer.Option(help="Rescale channels between layers: auto (where int8 is far from float), on or off.")
    ] = "auto",
    bias_correction: Annotated[
        str,
        typer.Option("--bias-correction", help="Take the mean shift out of biases where it helps: auto, on or off."),
    ] = "auto",
    batch_norm: Annotated[
        str,
        typer.Option(
            "--batch-norm", help="Of a .pt: keep, reestimate on the pictures, or auto: if select gains clearly."
        ),
    ] = "keep",
    rounding: Annotated[str, typer.Option(help="Of weights: nearest, or adaround, which learns it.")] = "nearest",
    max_drop: Annotated[
        float | None,
        typer.Option("--max-drop", help="Accuracy in points that may be lost on select; layers go back to float."),
    ] = None,
    analyze: Annotated[
        bool, typer.Option("--analyze", help="Only score what int8 costs each layer: MODEL.analysis.json and .html.")
    ] = False,
    sweep: Annotated[
        list[str] | None,
        typer.Option("--sweep", help="Of --analyze: alone (default), weights, activations, left-out; may be repeated."),
    ] = None,
    force_int8: Annotated[
        bool, typer.Option("--force-int8", help="Quantize all that can be, even where it is slower.")
    ] = False,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Score what int8 costs each layer too, for the report of OUTPUT.")
    ] = False,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Calibrate on procedural pictures; the manifest says so.")
    ] = False,
    qat_epochs: Annotated[
        int, typer.Option("--qat-epochs", help="Passes over the train split.", rich_help_panel=QAT)
    ] = 4,
    qat_lr: Annotated[float, typer.Option("--qat-lr", help="Peak learning rate of AdamW.", rich_help_panel=QAT)] = 1e-4,
    qat_batch: Annotated[int, typer.Option("--qat-batch", help="Pictures per step.", rich_help_panel=QAT)] = 64,
    qat_scales: Annotated[
        str, typer.Option("--qat-scales", help="Step sizes: learned (LSQ) or fixed.", rich_help_panel=QAT)
    ] = "learned",
    qat_freeze: Annotated[
        float,
        typer.Option("--qat-freeze", help="Share of the steps before BatchNorm is frozen.", rich_help_panel=QAT),
    ] = 0.3,
    qat_every: Annotated[
        int | None,
        typer.Option("--qat-every", help="Steps between looks at select; default: an epoch.", rich_help_panel=QAT),
    ] = None,
    qat_teacher: Annotated[
        Path | None,
        typer.Option("--qat-teacher", help="Model file to learn from; default: MODEL itself.", rich_help_panel=QAT),
    ] = None,
    qat_labels: Annotated[
        float,
        typer.Option("--qat-labels", help="Share of the labels in the loss; 1: no teacher.", rich_help_panel=QAT),
    ] = 0.0,
    qat_shift_px: Annotated[
        int, typer.Option("--qat-shift-px", help="Random shift of training pictures.", rich_help_panel=QAT)
    ] = 0,
    qat_flip: Annotated[
        float, typer.Option("--qat-flip", help="Probability of a horizontal flip.", rich_help_panel=QAT)
    ] = 0.0,
    qat_device: Annotated[
        str, typer.Option("--qat-device", help="Of the training: auto, cpu or cuda.", rich_help_panel=QAT)
    ] = "auto",
    size: o.Size = None,
    arch: Annotated[str | None, typer.Option(help="What the tensors are, where that cannot be recognised.")] = None,
    threads: o.Threads = 1,
    seed: o.Seed = 0,
    allow_code: o.AllowCode = False,
    skip_broken: o.SkipBroken = False,
    config: o.ConfigFile = None,
    force: o.Force = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    json: o.Json = False,
) -> None:
    """Quantize a model to int8 in its target's dialect, keep float what int8 would slow down, and verify the file."""
    with running("quantize", quiet=quiet, debug=debug, as_json=json) as run:
        from deploykit.cli.stage import needed, stage_arguments
        from deploykit.commands.quantize import quantize
        from deploykit.config.common import build
        from deploykit.config.quantize import QuantizeConfig

        if lint:
            from deploykit.quantization.lint.lint import lint as judge

            judged = judge(needed(model, "MODEL"), target)
            run.finish(
                judged.to_dict(),
                judged.summary(),
                status="ok" if judged.ok else "failed",
                exit_code=0 if judged.ok else 1,
            )
            return
        if config is not None:
            result = quantize(**stage_arguments(config, "quantize", QuantizeConfig), force=force, progress=run.progress)
        else:
            fields = {
                "target": target,
                "data": data,
                "method": method,
                "percentile": percentile,
                "ranges": None if ranges is None else str(ranges),
                "images": images,
                "batch": batch,
                "keep_float": keep_float or (),
                "weight_bits": weight_bits,
                "precision": precision,
                "equalize": equalize,
                "bias_correction": bias_correction,
                "rounding": rounding,
                "batch_norm": batch_norm,
                "max_drop": max_drop,
                "force_int8": force_int8,
                "sensitivity": sensitivity,
                "synthetic": synthetic,
                "size": size,
                "arch": arch,
                "threads": threads,
                "seed": seed,
                "allow_code": allow_code,
                "skip_broken": skip_broken,
                "qat_epochs": qat_epochs,
                "qat_lr": qat_lr,
                "qat_batch": qat_batch,
                "qat_scales": qat_scales,
                "qat_freeze": qat_freeze,
                "qat_every": qat_every,
                "qat_teacher": None if qat_teacher is None else str(qat_teacher),
                "qat_labels": qat_labels,
                "qat_shift_px": qat_shift_px,
                "qat_flip": qat_flip,
                "qat_device": qat_device,
            }
            if analyze:
                from deploykit.config.quantize import AnalyzeConfig
                from deploykit.quantization.analyze import analyze as score_layers

                scoring = build(AnalyzeConfig, fields | {"modes": sweep or ("alone",)})
                scored = score_layers(needed(model, "MODEL"), output, scoring, force=force, progress=run.progress)
                run.finish(scored.to_dict(), scored.summary())
                return
            if sweep:
                from deploykit.base.errors import BadInput

                raise BadInput("--sweep says what is analyzed", expected="--analyze with it")
            settings = build(QuantizeConfig, fields)
            result = quantize(needed(model, "MODEL"), output, settings, force=force, progress=run.progress)
        run.finish(result.to_dict(), result.summary())
