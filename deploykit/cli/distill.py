"""``deploykit distill``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploykit.cli import loop_options as loop
from deploykit.cli import options as o
from deploykit.cli.loop_options import option
from deploykit.cli.runtime import running

_Text = str | None
_Whole = int | None
_Number = float | None


def command(
    student: Annotated[
        Path | None, typer.Argument(help="A model file, pruned or not; left out: --arch says what is built.")
    ] = None,
    output: o.Output = None,
    teacher: Annotated[
        list[str] | None,
        option("--teacher", help="[NAME=]PATH[@TARGET]: a model file, .onnx or any engine; may be repeated."),
    ] = None,
    data: o.Data = None,
    arch: Annotated[
        _Text,
        option(
            "--arch",
            help="Without STUDENT: SOURCE:NAME to train from scratch, or auto, a smaller one of the teacher's family. "
            "With it: what its tensors are, where that cannot be recognised.",
        ),
    ] = None,
    macs: Annotated[
        _Number, option("--macs", help="Of --arch auto: MACs at most, as a fraction of the teacher's; default: 0.5.")
    ] = None,
    loss: Annotated[_Text, option("--loss", help="Of the logits: kd, dkd or dist; default: kd.")] = None,
    temperature: Annotated[
        _Number, option("--temperature", help="Logits are divided by it; default: 4 for kd, 1 for dkd and dist.")
    ] = None,
    alpha: Annotated[
        _Number, option("--alpha", help="Of kd: weight of the teacher, the rest is the labels'; default: 0.9.")
    ] = None,
    beta: Annotated[
        _Number,
        option(
            "--beta", help="Of dkd: weight of the other classes, default 0.5; of dist: of both relations, default 1."
        ),
    ] = None,
    combine: Annotated[
        _Text, option("--combine", help="Several teachers: average, weighted (by select) or vote; default: average.")
    ] = None,
    view: Annotated[
        _Text,
        option(
            "--view",
            help="Teachers see the student's augmented picture (same) or the plain one (clean); default: same.",
        ),
    ] = None,
    features: Annotated[_Text, option("--features", help="Match layers too: attention or hint; default: none.")] = None,
    layer: Annotated[
        list[str] | None, option("--layer", help="Of --features: STUDENT=TEACHER, or one name; may be repeated.")
    ] = None,
    feature_weight: Annotated[
        _Number, option("--feature-weight", help="Of the layers' term; default: 1. Too much costs accuracy.")
    ] = None,
    size: o.Size = None,
    epochs: loop.Epochs = None,
    batch: loop.Batch = None,
    optimizer: loop.Optimizer = None,
    lr: Annotated[_Number, option("--lr", help="Peak learning rate; default: 0.02.")] = None,
    momentum: loop.Momentum = None,
    weight_decay: loop.WeightDecay = None,
    schedule: loop.Schedule = None,
    warmup_epochs: loop.WarmupEpochs = None,
    step_epochs: loop.StepEpochs = None,
    step_gamma: loop.StepGamma = None,
    label_smoothing: loop.LabelSmoothing = None,
    augment: loop.Augment = None,
    clip_norm: loop.ClipNorm = None,
    ema: loop.Ema = None,
    early_stop: loop.EarlyStop = None,
    precision: loop.Precision = None,
    channels_last: loop.ChannelsLast = None,
    cache: Annotated[
        bool | None, option("--cache/--no-cache", help="Keep teachers' answers for later runs; default: keep.")
    ] = None,
    seed: loop.Seed = None,
    threads: loop.Threads = None,
    device: loop.Device = None,
    allow_code: o.AllowCode = False,
    skip_broken: o.SkipBroken = False,
    config: o.ConfigFile = None,
    force: o.Force = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    json: o.Json = False,
) -> None:
    """Train a student to answer as its teachers do; the file is STUDENT.distilled.pt unless -o names it.

    An interrupted run goes on where it stopped when the same command is given again. On several GPUs or processes:
    torchrun --nproc-per-node 2 -m deploykit.cli.main distill …
    """
    import os

    first = os.environ.get("RANK", "0") == "0"
    with running("distill", quiet=quiet or not first, debug=debug, as_json=json and first) as run:
        from deploykit.cli.fields import pairs, set_only
        from deploykit.cli.stage import needed, stage_arguments
        from deploykit.commands.distill import distill
        from deploykit.config.common import build
        from deploykit.config.distill import DistillConfig

        if config is not None:
            stored = stage_arguments(config, "distill", DistillConfig)
            result = distill(stored.pop("model", None), **stored, force=force, progress=run.progress)
        else:
            fields = set_only(
                dict(
                    teachers=needed(teacher, "--teacher"),
                    data=needed(data, "--data"),
                    arch=arch,
                    auto_macs=macs,
                    loss=loss,
                    temperature=temperature,
                    alpha=alpha,
                    beta=beta,
                    combine=combine,
                    view=view,
                    features=features,
                    layers=layer,
                    feature_weight=feature_weight,
                    size=size,
                    epochs=epochs,
                    batch=batch,
                    optimizer=optimizer,
                    lr=lr,
                    momentum=momentum,
                    weight_decay=weight_decay,
                    schedule=schedule,
                    warmup_epochs=warmup_epochs,
                    step_epochs=step_epochs,
                    step_gamma=step_gamma,
                    label_smoothing=label_smoothing,
                    augment=None if augment is None else pairs([augment], "--augment"),
                    clip_norm=clip_norm,
                    ema=ema,
                    early_stop=early_stop,
                    precision=precision,
                    channels_last=channels_last,
                    cache=cache,
                    seed=seed,
                    threads=threads,
                    device=device,
                    allow_code=allow_code,
                    skip_broken=skip_broken,
                )
            )
            settings = build(DistillConfig, fields)
            result = distill(student, output, settings, force=force, progress=run.progress)
        if first:
            run.finish(result.to_dict(), result.summary())
