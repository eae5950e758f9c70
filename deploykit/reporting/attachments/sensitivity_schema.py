"""The shape of a sensitivity analysis, ``deploykit.sensitivity/1``."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(max_length=400)]
Mode = Literal["alone", "weights", "activations", "left-out"]
Finite = Annotated[float, Field(ge=-1e38, le=1e38)]


class Part(BaseModel):
    """A part of the analysis: no NaN, unknown keys refused."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Score(Part):
    """Divergence in nats, SNR of the logits, share of equal top-1 answers."""

    kl: Annotated[float, Field(ge=0, le=1e6)]
    snr_db: Finite | None
    agreement: Annotated[float, Field(ge=0, le=1)]


class Input(Part):
    """Range and histogram of a layer's input."""

    tensor: Name
    low: Finite
    high: Finite
    range_low: Finite
    range_high: Finite
    clipped_ratio: Annotated[float, Field(ge=0, le=1)]
    histogram: Annotated[list[Annotated[int, Field(ge=0, le=1 << 60)]], Field(max_length=256)]


class Weights(Part):
    """Shape of a layer's weight and what rounding costs it."""

    shape: Annotated[list[int], Field(max_length=8)]
    bits: Annotated[int, Field(ge=1, le=32)]
    snr_db: Finite | None
    channel_spread: Finite


class Layer(Part):
    """One layer, with a score for each mode of the analysis."""

    name: Name
    op_type: Name
    scores: dict[Mode, Score]
    input: Input
    weights: Weights


class Model(Part):
    """What was analyzed."""

    name: Name
    sha256: Name


class Sensitivity(Part):
    """The whole analysis."""

    schema_: Literal["deploykit.sensitivity/1"] = Field(alias="schema")
    model: Model
    target: Name
    method: Name
    data: Name
    calibration_images: Annotated[int, Field(ge=0)]
    images: Annotated[int, Field(ge=0)]
    modes: Annotated[list[Mode], Field(min_length=1, max_length=4)]
    whole: Score
    layers: Annotated[list[Layer], Field(max_length=2000)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for layer in self.layers:
            missing = [mode for mode in self.modes if mode not in layer.scores]
            if missing:
                raise ValueError(f"{layer.name!r} has no score for {missing[0]!r}")
        return self
