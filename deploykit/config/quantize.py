"""Configuration of int8 quantization."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from deploykit.config.common import Config


class QuantizeConfig(Config):
    """One quantization: after training, or, with ``method: qat``, by training on with fake quantization.

    ``method: qat`` takes a model file and makes one, which a second quantization only writes out for any target; the
    fields ``qat_…`` are its own.

    Attributes:
        target: whose Q/DQ dialect is written.
        data: calibration pictures come from its ``train`` split, every choice is made on ``select``.
        method: how ranges are chosen; ``auto`` takes the one whose logits are nearest to float on ``select``.
            ``qat`` starts from that one and trains weights and step sizes.
        percentile: of values kept by ``percentile``.
        ranges: file that keeps what the calibration saw: read where it fits, else written.
        images: calibration pictures at most.
        select_images: pictures that choices are made on, at most.
        batch: pictures per calibration call.
        keep_float: names of nodes that stay float.
        weight_bits: of weights, stored as int8; None: 8, or 7 where the CPU's int8 sums would saturate.
        precision: of what is not int8, on targets that gain by 16 bits; inputs and outputs stay float32.
        equalize: rescale channels between layers; ``auto``: where int8 is far from float, and only if it helps.
        bias_correction: take the mean shift out of the biases; ``auto`` as above, ``on``: always tried; kept if it helps.
        rounding: of weights; ``adaround`` learns it layer by layer, and is kept if it helps.
        batch_norm: of a model file; ``reestimate`` its statistics on the calibration pictures; ``auto``: where ``select``
            is then answered significantly better.
        max_drop: accuracy that may be lost on ``select``, in percentage points; layers go back to float until it holds.
        force_int8: quantize all that can be, without looking at the measured time.
        sensitivity: score what int8 costs each layer as well, which the report of the file then shows.
        synthetic: calibrate on procedural pictures, which is marked in the manifest.
        size: input size in pixels where the model does not carry it.
        arch: what the tensors are, where recognition cannot tell.
        threads: of calibration and of the measured candidates.
        allow_code: ``module:…`` may run.
        skip_broken: leave out pictures that cannot be read, naming them.
        seed: of the choice of pictures, and of all draws of the training.
        qat_epochs: passes over the train split.
        qat_lr: peak learning rate of AdamW (cosine, gradient norm clipped at 1); more than 1e-4 seldom does good.
        qat_batch: pictures per step.
        qat_scales: ``learned`` step sizes (LSQ) of weights and activations, or ``fixed`` ones.
        qat_freeze: after this share of the steps BatchNorm uses its running statistics, as the engine does.
        qat_every: steps between two looks at ``select``; None: once an epoch.
        qat_teacher: model file whose logits are learned; None: the float model itself.
        qat_labels: share of the labels' cross-entropy in the loss; 1 leaves the teacher out.
        qat_shift_px: training pictures are shifted at random by up to this many pixels.
        qat_flip: probability of a horizontal flip of a training picture.
        qat_device: the training's.
    """

    target: str = "ort-cpu"
    data: str | None = None
    method: Literal["auto", "minmax", "moving", "percentile", "entropy", "mse", "qat"] = "auto"
    percentile: float = Field(99.99, gt=50, le=100)
    ranges: str | None = None
    images: int = Field(256, ge=1)
    select_images: int = Field(128, ge=1)
    batch: int = Field(8, ge=1)
    keep_float: tuple[str, ...] = ()
    weight_bits: int | None = Field(None, ge=2, le=8)
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    equalize: Literal["auto", "on", "off"] = "auto"
    bias_correction: Literal["auto", "on", "off"] = "auto"
    rounding: Literal["nearest", "adaround"] = "nearest"
    batch_norm: Literal["keep", "auto", "reestimate"] = "keep"
    max_drop: float | None = Field(None, ge=0, le=100)
    force_int8: bool = False
    sensitivity: bool = False
    synthetic: bool = False
    size: int | None = Field(None, ge=1)
    arch: str | None = None
    threads: int = Field(1, ge=1)
    allow_code: bool = False
    skip_broken: bool = False
    seed: int = Field(0, ge=0)
    qat_epochs: int = Field(4, ge=1)
    qat_lr: float = Field(1e-4, gt=0)
    qat_batch: int = Field(64, ge=1)
    qat_scales: Literal["learned", "fixed"] = "learned"
    qat_freeze: float = Field(0.3, ge=0, le=1)
    qat_every: int | None = Field(None, ge=1)
    qat_teacher: str | None = None
    qat_labels: float = Field(0.0, ge=0, le=1)
    qat_shift_px: int = Field(0, ge=0)
    qat_flip: float = Field(0.0, ge=0, le=1)
    qat_device: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="after")
    def _of_one_source(self) -> Self:
        if self.synthetic and self.data is not None:
            raise ValueError(f"synthetic pictures stand in for data: leave one of them away; got data {self.data!r}")
        return self

    @model_validator(mode="after")
    def _of_one_method(self) -> Self:
        fields = type(self).model_fields
        of_qat = [name for name in fields if name.startswith("qat_") and getattr(self, name) != fields[name].default]
        if self.method != "qat" and of_qat:
            raise ValueError(f"{of_qat[0]} belongs to method qat; got method {self.method}")
        if self.method != "qat":
            return self
        unused = {
            "precision": "fp32",
            "rounding": "nearest",
            "batch_norm": "keep",
            "max_drop": None,
            "ranges": None,
            "synthetic": False,
        }
        for name, default in unused.items():
            if getattr(self, name) != default:
                raise ValueError(f"{name} does not go with method qat; got {getattr(self, name)!r}")
        return self


class AnalyzeConfig(QuantizeConfig):
    """One sensitivity sweep: the fields of a quantization, and what is swept.

    Attributes:
        select_images: pictures that layers are scored on, at most.
        modes: ``alone`` quantizes only the layer, ``weights`` and ``activations`` only these of it, ``left-out`` all but it.
    """

    method: Literal["auto", "minmax", "moving", "percentile", "entropy", "mse"] = "auto"
    select_images: int = Field(256, ge=1)
    modes: tuple[Literal["alone", "weights", "activations", "left-out"], ...] = ("alone",)
