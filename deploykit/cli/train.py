"""``deploykit train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from deploykit.cli import loop_options as loop
from deploykit.cli import options as o
from deploykit.cli.loop_options import option
from deploykit.cli.runtime import running

_Text = str | None
_Whole = int | None
_Number = float | None


def command(
    output: Annotated[Path | None, option("-o", "--output", help="Name of the model file; default: model.pt.")] = None,
    data: o.Data = None,
    recipe: Annotated[
        Path | None, option("--recipe", help="Take model, data and train of a recipe; options given here come first.")
    ] = None,
    arch: Annotated[
        _Text,
        option(
            "--arch", help="deploykit:NAME, torchvision:NAME, timm:NAME, module:factory; default: deploykit:resnet."
        ),
    ] = None,
    kwarg: Annotated[
        list[str] | None,
        option("--kwarg", help="KEY=VALUE for the architecture (depth=14, widths=[32,64,128]); repeatable."),
    ] = None,
    weights: Annotated[_Text, option("--weights", help="A model file to start from.")] = None,
    freeze: Annotated[bool, typer.Option("--freeze", help="Train the head only.")] = False,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch the library's pretrained weights to start from.")
    ] = False,
    size: o.Size = None,
    mean: Annotated[_Text, option("--mean", help="R,G,B to subtract, of values in 0…1.")] = None,
    std: Annotated[_Text, option("--std", help="R,G,B to divide by, of values in 0…1.")] = None,
    epochs: loop.Epochs = None,
    batch: loop.Batch = None,
    optimizer: loop.Optimizer = None,
    lr: Annotated[_Number, option("--lr", help="Peak learning rate; default: 0.1.")] = None,
    momentum: loop.Momentum = None,
    weight_decay: loop.WeightDecay = None,
    schedule: loop.Schedule = None,
    warmup_epochs: loop.WarmupEpochs = None,
    step_epochs: loop.StepEpochs = None,
    step_gamma: loop.StepGamma = None,
    label_smoothing: loop.LabelSmoothing = None,
    sparsify: Annotated[
        _Text, option("--sparsify", help="Make channels weak for pruning: bn-scale or group-norm; default: off.")
    ] = None,
    sparsify_strength: Annotated[
        _Number, option("--sparsify-strength", help="Factor of that penalty in the loss; default: 0.0001.")
    ] = None,
    augment: loop.Augment = None,
    clip_norm: loop.ClipNorm = None,
    ema: loop.Ema = None,
    early_stop: loop.EarlyStop = None,
    precision: loop.Precision = None,
    channels_last: loop.ChannelsLast = None,
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
    """Train or fine-tune a classifier; the file is model.pt unless -o names it.

    An interrupted run goes on where it stopped when the same command is given again. On several GPUs or processes:
    torchrun --nproc-per-node 2 -m deploykit.cli.main train …
    """
    import os

    first = os.environ.get("RANK", "0") == "0"
    with running("train", quiet=quiet or not first, debug=debug, as_json=json and first) as run:
        from deploykit.cli.fields import pairs, set_only
        from deploykit.cli.stage import stage_arguments
        from deploykit.commands.train import train
        from deploykit.config.common import build
        from deploykit.config.train import TrainConfig

        if config is not None:
            result = train(**stage_arguments(config, "train", TrainConfig), force=force, progress=run.progress)
        else:
            model = dict(arch=arch, weights=weights, freeze=freeze or None, download=download or None)
            given = dict(
                data=data,
                size=size,
                mean=_triple(mean),
                std=_triple(std),
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
                sparsify=sparsify,
                sparsify_strength=sparsify_strength,
                clip_norm=clip_norm,
                ema=ema,
                early_stop=early_stop,
                precision=precision,
                channels_last=channels_last,
                seed=seed,
                threads=threads,
                device=device,
                skip_broken=skip_broken or None,
            )
            fields = _recipe_fields(recipe, allow_code)
            fields = {**fields, **set_only(given)}
            if augment is not None:
                fields["augment"] = pairs([augment], "--augment")
            before = fields.get("model", {}) if arch is None else {}
            fields["model"] = {**before, **set_only(model)}
            if kwarg:
                fields["model"]["kwargs"] = {**before.get("kwargs", {}), **pairs(kwarg, "--kwarg")}
            # What only a recipe or a file names does not run without --allow-code.
            fields["allow_code"] = allow_code or (recipe is None and weights is None)
            result = train(output, build(TrainConfig, _with_data(fields)), force=force, progress=run.progress)
        if first:
            run.finish(result.to_dict(), result.summary())


def _recipe_fields(recipe: Path | None, allow_code: bool) -> dict[str, Any]:
    if recipe is None:
        return {}
    from deploykit.base.errors import BadInput
    from deploykit.config.recipe import ModelFile
    from deploykit.config.recipe_read import load_recipe

    read = load_recipe(recipe)
    if isinstance(read.model, ModelFile):
        raise BadInput(f"{recipe} names a trained model", got=read.model.file, expected="model: {arch: …}")
    return read.train_config(allow_code=allow_code).plain()


def _with_data(fields: dict[str, Any]) -> dict[str, Any]:
    from deploykit.base.errors import BadInput

    if "data" not in fields:
        raise BadInput("nothing to train on", expected="--data, --recipe or --config", fix="Try --data digits.")
    return fields


def _triple(text: str | None) -> list[float] | None:
    from deploykit.base.errors import BadInput

    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 3:
        raise BadInput(f"cannot read {text!r}", expected="three numbers with commas between them (0.5,0.5,0.5)")
    return values
