"""``deploykit train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from deploykit.cli import options as o
from deploykit.cli.runtime import running

_Text = str | None
_Whole = int | None
_Number = float | None


def _option(*names: str, help: str) -> Any:
    return typer.Option(*names, help=help, show_default=False)


def command(
    output: Annotated[Path | None, _option("-o", "--output", help="Name of the model file; default: model.pt.")] = None,
    data: o.Data = None,
    recipe: Annotated[
        Path | None, _option("--recipe", help="Take model, data and train of a recipe; options given here come first.")
    ] = None,
    arch: Annotated[
        _Text,
        _option(
            "--arch", help="deploykit:NAME, torchvision:NAME, timm:NAME, module:factory; default: deploykit:resnet."
        ),
    ] = None,
    kwarg: Annotated[
        list[str] | None,
        _option("--kwarg", help="KEY=VALUE for the architecture (depth=14, widths=[32,64,128]); repeatable."),
    ] = None,
    weights: Annotated[_Text, _option("--weights", help="A model file to start from.")] = None,
    freeze: Annotated[bool, typer.Option("--freeze", help="Train the head only.")] = False,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch the library's pretrained weights to start from.")
    ] = False,
    size: o.Size = None,
    mean: Annotated[_Text, _option("--mean", help="R,G,B to subtract, of values in 0…1.")] = None,
    std: Annotated[_Text, _option("--std", help="R,G,B to divide by, of values in 0…1.")] = None,
    epochs: Annotated[_Whole, _option("--epochs", help="Passes over the train split; default: 10.")] = None,
    batch: Annotated[_Whole, _option("--batch", help="Batch size over all processes; default: 64.")] = None,
    optimizer: Annotated[_Text, _option("--optimizer", help="sgd (Nesterov momentum) or adamw; default: sgd.")] = None,
    lr: Annotated[_Number, _option("--lr", help="Peak learning rate; default: 0.1.")] = None,
    momentum: Annotated[_Number, _option("--momentum", help="Of sgd; default: 0.9.")] = None,
    weight_decay: Annotated[
        _Number, _option("--weight-decay", help="Of weights, not of norms and biases; default: 0.0005.")
    ] = None,
    schedule: Annotated[
        _Text, _option("--schedule", help="cosine, step, onecycle or constant; default: cosine.")
    ] = None,
    warmup_epochs: Annotated[_Number, _option("--warmup-epochs", help="Linear, at the start; default: 0.")] = None,
    step_epochs: Annotated[_Whole, _option("--step-epochs", help="Epochs between steps; default: 30.")] = None,
    step_gamma: Annotated[_Number, _option("--step-gamma", help="Factor of each step; default: 0.1.")] = None,
    label_smoothing: Annotated[_Number, _option("--label-smoothing", help="0…1; default: 0.")] = None,
    sparsify: Annotated[
        _Text, _option("--sparsify", help="Make channels weak for pruning: bn-scale or group-norm; default: off.")
    ] = None,
    sparsify_strength: Annotated[
        _Number, _option("--sparsify-strength", help="Factor of that penalty in the loss; default: 0.0001.")
    ] = None,
    augment: Annotated[
        _Text,
        _option(
            "--augment",
            help="KEY=VALUE,… of shift_px, crop, flip, rotate_degrees, color, randaugment, randaugment_magnitude, "
            "mixup, cutmix; default: none.",
        ),
    ] = None,
    clip_norm: Annotated[_Number, _option("--clip-norm", help="Gradient norm limit; default: none.")] = None,
    ema: Annotated[_Number, _option("--ema", help="Decay of a moving average of the weights; default: none.")] = None,
    early_stop: Annotated[
        _Whole, _option("--early-stop", help="Stop after so many epochs without a better top-1 on select.")
    ] = None,
    precision: Annotated[_Text, _option("--precision", help="fp32, or mixed fp16/bf16; default: fp32.")] = None,
    channels_last: Annotated[
        bool | None, _option("--channels-last/--no-channels-last", help="Memory format; default: channels last.")
    ] = None,
    seed: Annotated[_Whole, _option("--seed", help="Seed of everything random; default: 0.")] = None,
    threads: Annotated[_Whole, _option("--threads", help="CPU threads; default: a short probe decides.")] = None,
    device: Annotated[_Text, _option("--device", help="auto, cpu or cuda; default: auto.")] = None,
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
        from deploykit.base.config.common import build
        from deploykit.base.config.train import TrainConfig
        from deploykit.cli.fields import pairs, set_only
        from deploykit.cli.stage import stage_arguments
        from deploykit.commands.train import train

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
            result = train(
                output, build(TrainConfig, _with_data(fields), "deploykit train"), force=force, progress=run.progress
            )
        if first:
            run.finish(result.to_dict(), result.summary())


def _recipe_fields(recipe: Path | None, allow_code: bool) -> dict[str, Any]:
    if recipe is None:
        return {}
    from deploykit.base.config.recipe import ModelFile
    from deploykit.base.config.recipe_reading import load_recipe
    from deploykit.base.errors import BadInput

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
