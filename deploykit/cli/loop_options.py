"""The options of the training loop, the same wherever a command trains; what is left out is the configuration's to decide."""

from __future__ import annotations

from typing import Annotated, Any

import typer

_Text = str | None
_Whole = int | None
_Number = float | None


def option(*names: str, help: str) -> Any:
    """An option whose default stands in its help."""
    return typer.Option(*names, help=help, show_default=False)


Epochs = Annotated[_Whole, option("--epochs", help="Passes over the train split; default: 10.")]
Batch = Annotated[_Whole, option("--batch", help="Batch size over all processes; default: 64.")]
Optimizer = Annotated[_Text, option("--optimizer", help="sgd (Nesterov momentum) or adamw; default: sgd.")]
Momentum = Annotated[_Number, option("--momentum", help="Of sgd; default: 0.9.")]
WeightDecay = Annotated[_Number, option("--weight-decay", help="Of weights, not of norms and biases; default: 0.0005.")]
Schedule = Annotated[_Text, option("--schedule", help="cosine, step, onecycle or constant; default: cosine.")]
WarmupEpochs = Annotated[_Number, option("--warmup-epochs", help="Linear, at the start; default: 0.")]
StepEpochs = Annotated[_Whole, option("--step-epochs", help="Epochs between steps; default: 30.")]
StepGamma = Annotated[_Number, option("--step-gamma", help="Factor of each step; default: 0.1.")]
LabelSmoothing = Annotated[_Number, option("--label-smoothing", help="0…1; default: 0.")]
Augment = Annotated[
    _Text,
    option(
        "--augment",
        help="KEY=VALUE,… of shift_px, crop, flip, rotate_degrees, color, randaugment, randaugment_magnitude, "
        "mixup, cutmix; default: none.",
    ),
]
ClipNorm = Annotated[_Number, option("--clip-norm", help="Gradient norm limit; default: none.")]
Ema = Annotated[_Number, option("--ema", help="Decay of a moving average of the weights; default: none.")]
EarlyStop = Annotated[
    _Whole, option("--early-stop", help="Stop after so many epochs without a better top-1 on select.")
]
Precision = Annotated[_Text, option("--precision", help="fp32, or mixed fp16/bf16; default: fp32.")]
ChannelsLast = Annotated[
    bool | None, option("--channels-last/--no-channels-last", help="Memory format; default: channels last.")
]
Seed = Annotated[_Whole, option("--seed", help="Seed of everything random; default: 0.")]
Threads = Annotated[_Whole, option("--threads", help="CPU threads; default: a short probe decides.")]
Device = Annotated[_Text, option("--device", help="auto, cpu or cuda; default: auto.")]
