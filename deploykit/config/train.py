"""Configuration of training."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from deploykit.config.command import Argument, Command, output
from deploykit.config.common import Config
from deploykit.config.flag import Flag, Panel
from deploykit.config.options import AllowCode, Device, FileFlags, SkipBroken, Threads, data_help
from deploykit.config.texts import number, pairs

SPARSIFY_STRENGTH = 1e-4


class ModelConfig(Config):
    """Which network; the number of classes comes from the data."""

    arch: str | None = Field(
        default=None,
        description="deploykit:NAME, torchvision:NAME, timm:NAME, module:factory; default: what --weights says, else "
        "deploykit:resnet.",
    )
    kwargs: Annotated[dict[str, Any], Flag("--kwarg", metavar="KEY=VALUE", many=True, parse=pairs)] = Field(
        default_factory=dict, description="For the architecture (depth=14, widths=[32,64,128])."
    )
    weights: Annotated[str | None, Flag(metavar="PATH")] = Field(
        default=None, description="A model file to start from; transfer when its classes differ."
    )
    download: bool = Field(default=False, description="Fetch the library's pretrained weights to start from.")
    freeze: bool = Field(default=False, description="Train the head only.")


class AugmentConfig(Config):
    """Random changes of training pictures; all off unless set. Values are in the unit the name says."""

    shift_px: int = Field(default=0, ge=0, description="Pad by this many pixels, then crop back at random.")
    crop: float | None = Field(
        default=None, gt=0, le=1, description="Random resized crop, the smallest area kept (0.08 is ImageNet's)."
    )
    flip: float = Field(default=0.0, ge=0, le=1, description="Probability of a horizontal flip.")
    rotate_degrees: float = Field(default=0.0, ge=0, le=180, description="Rotation drawn from ± this.")
    color: float = Field(default=0.0, ge=0, le=1, description="Strength of brightness, contrast and saturation jitter.")
    randaugment: int = Field(default=0, ge=0, description="Number of RandAugment operations; 0: off.")
    randaugment_magnitude: int = Field(default=9, ge=0, le=30, description="0…30.")
    mixup: float = Field(default=0.0, ge=0, description="Alpha of mixup; 0: off.")
    cutmix: float = Field(default=0.0, ge=0, description="Alpha of cutmix; 0: off. With both, one is drawn per batch.")


class LoopConfig(Config):
    """What the training loop itself needs, whatever the loss is."""

    augment: Annotated[AugmentConfig, Panel("Training"), Flag(metavar="KEY=VALUE,…", parse=pairs)] = Field(
        default_factory=AugmentConfig,
        description=f"Of training pictures: {', '.join(AugmentConfig.model_fields)}; default: none.",
    )
    epochs: int = Field(default=10, ge=1, description="Passes over the train split.")
    batch: int = Field(default=64, ge=1, description="Batch size over all processes.")
    optimizer: Literal["sgd", "adamw"] = Field(default="sgd", description="sgd has Nesterov momentum.")
    lr: Annotated[Literal["auto"] | Annotated[float, Field(gt=0)], Flag(metavar="auto|NUMBER", parse=number)] = Field(
        default="auto",
        description="Peak learning rate at this batch size; auto: found by short trials for a network that was trained "
        "before, else a fixed one.",
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Of sgd.")
    weight_decay: float = Field(default=5e-4, ge=0, description="Of weights, not of norms and biases.")
    schedule: Literal["cosine", "step", "onecycle", "constant"] = Field(
        default="cosine", description="Of the learning rate."
    )
    warmup_epochs: float = Field(
        default=0.0, ge=0, description="Linear, at the start; where trials find the rate, at least a tenth of the run."
    )
    step_epochs: int = Field(default=30, ge=1, description="Epochs between steps of --schedule step.")
    step_gamma: float = Field(default=0.1, gt=0, le=1, description="Factor of each step.")
    clip_norm: float | None = Field(default=None, gt=0, description="Gradient norm limit; default: none.")
    ema: float | None = Field(
        default=None, gt=0, lt=1, description="Decay of a moving average of the weights; default: none."
    )
    early_stop: int | None = Field(
        default=None, ge=1, description="Stop after so many epochs without a better top-1 on select; default: never."
    )
    precision: Annotated[Literal["fp32", "fp16", "bf16"], Panel("Machine")] = Field(
        default="fp32", description="fp32, or mixed fp16/bf16 on a GPU."
    )
    channels_last: bool = Field(default=True, description="Memory format.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of everything random.")
    threads: Annotated[Threads, Field(description="CPU threads; default: the physical cores less one, at most 16.")] = (
        None
    )
    device: Device = "auto"

    SCRATCH_LR: ClassVar[float] = 0.1
    """Of sgd on random weights, where the rate is ``auto``."""

    @property
    def scratch_lr(self) -> float:
        """The rate for random weights where it is ``auto``; AdamW's is a hundredth of sgd's."""
        return self.SCRATCH_LR * (0.01 if self.optimizer == "adamw" else 1.0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs: got {self.warmup_epochs}, expected less than epochs ({self.epochs})")
        return self


class LearningConfig(FileFlags, LoopConfig):
    """What a command that trains on labelled images needs beside the loop: choices are made on ``select``."""

    data: Annotated[str, Panel("Data")] = Field(
        description=data_help("Its train split is learned, choices are made on select")
    )
    skip_broken: SkipBroken = False
    allow_code: AllowCode = False
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="0…1, of the labels.")


class TrainConfig(LearningConfig):
    """One training run: the loop's settings, and these."""

    model: Annotated[ModelConfig, Panel("Network")] = Field(default_factory=ModelConfig, description="Which network.")
    sparsify: Annotated[Literal["bn-scale", "group-norm"] | None, Panel("Sparsity")] = Field(
        default=None,
        description="A penalty that makes channels weak for pruning: of BatchNorm scales, or of all weights of a channel; "
        "default: off.",
    )
    sparsify_strength: float = Field(default=SPARSIFY_STRENGTH, gt=0, description="Factor of that penalty in the loss.")

    @model_validator(mode="after")
    def _sparsified(self) -> Self:
        if self.sparsify is None and self.sparsify_strength != SPARSIFY_STRENGTH:
            raise ValueError("sparsify_strength: expected with sparsify")
        return self


COMMAND = Command(
    """Train or fine-tune a classifier; the file is model.pt unless -o names it.

An interrupted run goes on where it stopped when the same command is given again. On several GPUs or processes:
torchrun --nproc-per-node 2 -m deploykit.cli.main train …""",
    TrainConfig,
    (
        output("Name of the model file; default: model.pt."),
        Argument(
            "recipe",
            "Take model, data and train of a recipe; options given here come first.",
            "--recipe",
            "PATH",
            own=True,
        ),
    ),
    stored=True,
    spread=True,
)
