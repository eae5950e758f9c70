"""Configuration of int8 quantization."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from deploykit.base.targets import ORT_CPU, WITH_INT8
from deploykit.config.command import Argument, Command, output
from deploykit.config.flag import HIDDEN, Flag, OneOf, Panel
from deploykit.config.options import (
    Accept,
    AllowCode,
    Arch,
    Batch,
    Device,
    FileFlags,
    MinAgreement,
    MinSnrDb,
    Seed,
    SkipBroken,
    data_help,
)
from deploykit.config.registries import RANGE_METHODS

Switch = Literal["auto", "on", "off"]
_METHODS = f"Of the ranges: {RANGE_METHODS.told()}; auto takes the one whose logits are nearest to float on select."


class QuantizeConfig(FileFlags):
    """One quantization: after training, or, with ``method: qat``, by training on with fake quantization.

    ``method: qat`` takes a model file and makes one, which a second quantization only writes out for any target; the
    fields ``qat_…`` are its own.
    """

    target: Annotated[str, Flag(choices=WITH_INT8)] = Field(default=ORT_CPU, description="Whose dialect is written.")
    precision: Literal["fp32", "fp16", "bf16"] = Field(
        default="fp32",
        description="Of what is not int8; 16 bits are for TensorRT's targets. Inputs and outputs stay float32.",
    )
    weight_bits: int | None = Field(
        default=None,
        ge=2,
        le=8,
        description="Width of weights, 2…8, stored as int8; default: what the target computes exactly (8, or 7 where the "
        "CPU's int8 sums would saturate).",
    )
    tune: bool = Field(
        default=False,
        description="Measure here what predicted costs chose; a faster choice is kept in OUTPUT.choices.json.",
    )
    choices: Annotated[str | None, Flag(metavar="PATH")] = Field(
        default=None, description="Choices file of an earlier --tune, made again without measuring."
    )
    effort: Literal["fast", "normal", "max"] = Field(
        default="normal", description="How much is tried: two methods and one check, all methods, or everything."
    )
    isa: Literal["native", "avx2", "avx512", "vnni", "arm64"] = Field(
        default="native", description="Instruction set of the CPU that will run it; native: this machine's."
    )
    keep_float: tuple[str, ...] = Field(default=(), description="Name of a node that stays float.")
    force_int8: bool = Field(default=False, description="Quantize all that can be, even where it is slower.")
    data: Annotated[str | None, Panel("Calibration")] = Field(
        default=None, description=data_help("Calibrate on its train split, choose on select")
    )
    synthetic: bool = Field(default=False, description="Calibrate on procedural pictures; the manifest says so.")
    images: int = Field(default=256, ge=1, description="Calibration pictures at most.")
    select_images: Annotated[int, HIDDEN] = Field(
        default=128, ge=1, description="Pictures that choices are made on, at most."
    )
    batch: Batch = 8
    method: Annotated[str, OneOf(RANGE_METHODS, before=("auto",), after=("qat",))] = Field(
        default="auto", description=f"{_METHODS} qat starts from that one and trains weights and step sizes."
    )
    percentile: float = Field(
        default=99.99, gt=50, le=100, description="Share of values that --method percentile keeps."
    )
    ranges: Annotated[str | None, Flag(metavar="PATH")] = Field(
        default=None, description="File of the calibration: read where it fits, else written."
    )
    skip_broken: SkipBroken = False
    equalize: Annotated[Switch, Panel("Accuracy recovery")] = Field(
        default="auto",
        description="Rescale channels between layers; auto: where int8 is far from float, and only if it helps.",
    )
    bias_correction: Switch = Field(
        default="auto",
        description="Take the mean shift out of biases; auto as above, on: always tried; kept if it helps.",
    )
    rounding: Literal["auto", "nearest", "adaround"] = Field(
        default="auto",
        description="Of weights; adaround learns it layer by layer, and is kept if it helps; auto: with --effort max, where "
        "weights have fewer than 8 bits.",
    )
    batch_norm: Literal["keep", "auto", "reestimate"] = Field(
        default="keep",
        description="Of a model file: reestimate its statistics on the pictures; auto: where select then gains clearly.",
    )
    max_drop: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Accuracy in points that may be lost on select; layers go back to float until it holds.",
    )
    sensitivity: bool = Field(
        default=False, description="Score what int8 costs each layer too, which the report of OUTPUT then shows."
    )
    min_agreement: Annotated[MinAgreement, Panel("Bars")] = None
    min_snr_db: Annotated[MinSnrDb, Flag("--min-snr-db")] = None
    accept: Accept = False
    qat_epochs: Annotated[int, Panel("Training for int8 (--method qat)")] = Field(
        default=4, ge=1, description="Passes over the train split."
    )
    qat_lr: float = Field(
        default=1e-4,
        gt=0,
        description="Peak learning rate of AdamW (cosine, gradient norm clipped at 1); more seldom does good.",
    )
    qat_batch: int = Field(default=64, ge=1, description="Pictures per step.")
    qat_scales: Literal["learned", "fixed"] = Field(
        default="learned", description="Step sizes of weights and activations: learned (LSQ) or fixed."
    )
    qat_freeze: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="Share of the steps before BatchNorm is frozen to its running statistics, as in the engine.",
    )
    qat_every: int | None = Field(default=None, ge=1, description="Steps between looks at select; default: an epoch.")
    qat_teacher: Annotated[str | None, Flag(metavar="PATH")] = Field(
        default=None, description="Model file to learn from; default: MODEL itself."
    )
    qat_labels: float = Field(default=0.0, ge=0, le=1, description="Share of the labels in the loss; 1: no teacher.")
    qat_shift_px: int = Field(default=0, ge=0, description="Random shift of training pictures.")
    qat_flip: float = Field(default=0.0, ge=0, le=1, description="Probability of a horizontal flip.")
    qat_device: Device = "auto"
    arch: Annotated[Arch, Panel("Model and machine")] = None
    threads: int = Field(default=1, ge=1, description="CPU threads of calibration.")
    seed: Seed = 0
    allow_code: AllowCode = False

    @model_validator(mode="after")
    def _of_one_source(self) -> Self:
        if self.synthetic and self.data is not None:
            raise ValueError(f"synthetic pictures stand in for data: leave one of them away; got data {self.data!r}")
        return self

    @model_validator(mode="after")
    def _of_one_clock(self) -> Self:
        if self.tune and self.choices is not None:
            raise ValueError("choices are made already: leave tune away")
        for name in ("tune", "choices"):
            if getattr(self, name) and (self.target != ORT_CPU or self.force_int8 or self.method == "qat"):
                raise ValueError(f"{name} is about what stays float on {ORT_CPU}")
        if self.tune and self.isa != "native":
            raise ValueError(f"tune measures on this machine; got isa {self.isa}")
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
            "rounding": "auto",
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
    """One sensitivity sweep: the fields of a quantization, and what is swept."""

    method: Annotated[str, OneOf(RANGE_METHODS, before=("auto",))] = Field(default="auto", description=_METHODS)
    select_images: Annotated[int, HIDDEN] = Field(
        default=256, ge=1, description="Pictures that layers are scored on, at most."
    )
    modes: Annotated[tuple[Literal["alone", "weights", "activations", "left-out"], ...], Flag("--sweep")] = Field(
        default=("alone",),
        description="Of --analyze: int8 only the layer (alone), only these of it, or all but it (left-out).",
    )


COMMAND = Command(
    "Quantize a model to int8 in its target's dialect, keep float what int8 would slow down, and verify the file.",
    QuantizeConfig,
    (
        Argument("model", "An .onnx file, or a model file, which is exported first."),
        output(),
        Argument(
            "lint", "Only judge MODEL, a quantized .onnx, for --target; exit 1 where that breaks.", "--lint", own=True
        ),
        Argument(
            "analyze", "Only score what int8 costs each layer: MODEL.analysis.json and .html.", "--analyze", own=True
        ),
    ),
    also=AnalyzeConfig,
    stored=True,
)
