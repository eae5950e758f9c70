"""Configuration of int8 quantization."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from deploykit.base.config.common import Config


class QuantizeConfig(Config):
    """One post-training quantization.

    Attributes:
        target: whose Q/DQ dialect is written.
        data: calibration pictures come from its ``train`` split, every choice is made on ``select``.
        method: how ranges are chosen; ``auto`` takes the one whose logits are nearest to float on ``select``.
        percentile: of values kept by ``percentile``.
        ranges: file that keeps what the calibration saw: read where it fits, else written.
        images: calibration pictures at most.
        select_images: pictures that choices are made on, at most.
        batch: pictures per calibration call.
        keep_float: names of nodes that stay float.
        weight_bits: of weights, stored as int8; None: 8, or 7 where the CPU's int8 sums would saturate.
        equalize: rescale channels between layers; ``auto``: where int8 is far from float, and only if it helps.
        bias_correction: take the mean shift out of the biases; ``auto`` as above, ``on``: always tried; kept if it helps.
        rounding: of weights; ``adaround`` learns it layer by layer, and is kept if it helps.
        batch_norm: of a model file; ``reestimate`` its statistics on the calibration pictures; ``auto``: where ``select``
            is then answered significantly better.
        max_drop: accuracy that may be lost on ``select``, in percentage points; layers go back to float until it holds.
        force_int8: quantize all that can be, without looking at the measured time.
        synthetic: calibrate on procedural pictures, which is marked in the manifest.
        size: input size in pixels where the model does not carry it.
        arch: what the tensors are, where recognition cannot tell.
        threads: of calibration and of the measured candidates.
        allow_code: ``module:…`` may run.
        skip_broken: leave out pictures that cannot be read, naming them.
        seed: of the choice of pictures.
    """

    target: str = "ort-cpu"
    data: str | None = None
    method: Literal["auto", "minmax", "moving", "percentile", "entropy", "mse"] = "auto"
    percentile: float = Field(99.99, gt=50, le=100)
    ranges: str | None = None
    images: int = Field(256, ge=1)
    select_images: int = Field(128, ge=1)
    batch: int = Field(8, ge=1)
    keep_float: tuple[str, ...] = ()
    weight_bits: int | None = Field(None, ge=2, le=8)
    equalize: Literal["auto", "on", "off"] = "auto"
    bias_correction: Literal["auto", "on", "off"] = "auto"
    rounding: Literal["nearest", "adaround"] = "nearest"
    batch_norm: Literal["keep", "auto", "reestimate"] = "keep"
    max_drop: float | None = Field(None, ge=0, le=100)
    force_int8: bool = False
    synthetic: bool = False
    size: int | None = Field(None, ge=1)
    arch: str | None = None
    threads: int = Field(1, ge=1)
    allow_code: bool = False
    skip_broken: bool = False
    seed: int = Field(0, ge=0)


class AnalyzeConfig(QuantizeConfig):
    """One sensitivity sweep: the fields of a quantization, and what is swept.

    Attributes:
        select_images: pictures that layers are scored on, at most.
        modes: ``alone`` quantizes only the layer, ``weights`` and ``activations`` only these of it, ``left-out`` all but it.
    """

    select_images: int = Field(256, ge=1)
    modes: tuple[Literal["alone", "weights", "activations", "left-out"], ...] = ("alone",)
