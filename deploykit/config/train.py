"""Configuration of training."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from deploykit.config.common import Config

SPARSIFY_STRENGTH = 1e-4


class ModelConfig(Config):
    """Which network.

    Attributes:
        arch: ``SOURCE:NAME`` (``deploykit:resnet``, ``torchvision:resnet50``, ``timm:…``, ``package.module:factory``);
            None: what ``weights`` says, else ``deploykit:resnet``.
        kwargs: of the builder (``depth``, ``widths``, ``stem_stride`` …); the number of classes comes from the data.
        weights: a file to start from (transfer when its classes differ), or None.
        download: fetch the library's pretrained weights; never done without this.
        freeze: train the head only.
    """

    arch: str | None = None
    kwargs: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = None
    download: bool = False
    freeze: bool = False


class AugmentConfig(Config):
    """Random changes of training pictures; all off unless set. Values are in the unit the name says.

    Attributes:
        shift_px: pad by this many pixels, then crop back at random.
        crop: random resized crop, the smallest area kept (0.08 is ImageNet's); None: off.
        flip: probability of a horizontal flip.
        rotate_degrees: rotation drawn from ± this.
        color: strength of brightness, contrast and saturation jitter.
        randaugment: number of RandAugment operations; 0: off.
        randaugment_magnitude: 0…30.
        mixup: alpha of mixup; 0: off.
        cutmix: alpha of cutmix; 0: off. With both, one is drawn per batch.
    """

    shift_px: int = Field(0, ge=0)
    crop: float | None = Field(None, gt=0, le=1)
    flip: float = Field(0.0, ge=0, le=1)
    rotate_degrees: float = Field(0.0, ge=0, le=180)
    color: float = Field(0.0, ge=0, le=1)
    randaugment: int = Field(0, ge=0)
    randaugment_magnitude: int = Field(9, ge=0, le=30)
    mixup: float = Field(0.0, ge=0)
    cutmix: float = Field(0.0, ge=0)


class LoopConfig(Config):
    """What the training loop itself needs, whatever the loss is.

    Attributes:
        epochs: passes over the train split.
        batch: global batch size, over all processes; the last batch is not small: all have this size or a little less.
        optimizer: ``sgd`` (momentum, Nesterov) or ``adamw``.
        lr: peak learning rate at this global batch.
        momentum: of SGD.
        weight_decay: of weights; norms and biases are spared.
        schedule: of the learning rate.
        warmup_epochs: linear, at the start.
        step_epochs: ``step`` multiplies the rate by ``step_gamma`` every so many epochs.
        step_gamma: see ``step_epochs``.
        clip_norm: gradient norm limit; None: off.
        ema: decay of the moving average of the weights; None: off.
        early_stop: stop after so many epochs without a better top-1 on ``select``; None: off.
        precision: ``fp32``, or mixed ``fp16``/``bf16`` on a GPU.
        channels_last: memory format.
        augment: of training pictures.
        seed: of everything random.
        threads: CPU threads; None: a short probe decides.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    epochs: int = Field(10, ge=1)
    batch: int = Field(64, ge=1)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    schedule: Literal["cosine", "step", "onecycle", "constant"] = "cosine"
    warmup_epochs: float = Field(0.0, ge=0)
    step_epochs: int = Field(30, ge=1)
    step_gamma: float = Field(0.1, gt=0, le=1)
    clip_norm: float | None = Field(None, gt=0)
    ema: float | None = Field(None, gt=0, lt=1)
    early_stop: int | None = Field(None, ge=1)
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    channels_last: bool = True
    augment: AugmentConfig = Field(default_factory=AugmentConfig)
    seed: int = Field(0, ge=0, lt=2**32)
    threads: int | None = Field(None, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs: got {self.warmup_epochs}, expected less than epochs ({self.epochs})")
        return self


class TrainConfig(LoopConfig):
    """One training run: the loop's settings, and these.

    Attributes:
        model: which network.
        data: a data name (``digits``, ``synthetic:0``, a folder …).
        size: input size in pixels; None: that of the start file, else the data's natural one.
        mean: per channel normalisation of values in [0, 1]; None: that of the start file, else the data's default.
        std: as ``mean``.
        label_smoothing: 0…1.
        sparsify: a penalty that makes channels weak for pruning: of BatchNorm scales, or of all weights of a channel.
        sparsify_strength: its factor in the loss.
        allow_code: ``module:…`` models and data may run.
        skip_broken: leave out pictures that cannot be read, naming them.
    """

    model: ModelConfig = Field(default_factory=ModelConfig)
    data: str
    size: int | None = Field(None, ge=1)
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    sparsify: Literal["bn-scale", "group-norm"] | None = None
    sparsify_strength: float = Field(SPARSIFY_STRENGTH, gt=0)
    allow_code: bool = False
    skip_broken: bool = False

    @model_validator(mode="after")
    def _sparsified(self) -> Self:
        if self.sparsify is None and self.sparsify_strength != SPARSIFY_STRENGTH:
            raise ValueError("sparsify_strength: expected with sparsify")
        return self
