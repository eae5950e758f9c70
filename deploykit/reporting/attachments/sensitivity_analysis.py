"""``sensitivity``: which layers int8 hurts and what their tensors look like, ``deploykit.sensitivity/1``; also a page of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from markupsafe import Markup
from pydantic import Field, model_validator

from deploykit.reporting.attachments.kinds import Attachment, Content, Piece, made
from deploykit.reporting.charts.svg import element, figure
from deploykit.reporting.pages import render

WIDTH, HEIGHT = 180.0, 20.0
DECADES = 5.0
HISTOGRAM = (180.0, 34.0)


def log_bar(value: float, largest: float, label: str) -> Markup:
    """A bar for ``value`` whose full width is ``largest`` and which vanishes ``DECADES`` powers of ten below it."""
    share = 0.0
    if value > 0 and largest > 0:
        share = min(1.0, max(0.0, 1 + math.log10(value / largest) / DECADES))
    bars = [element("rect", x=0, y=4, width=WIDTH, height=12, rx=2, class_="track")]
    if share > 0:
        bars.append(element("rect", x=0, y=4, width=max(2.0, share * WIDTH), height=12, rx=2, class_="fill"))
    return figure(WIDTH, HEIGHT, label, f"{value:.3g} of {largest:.3g}, logarithmic", bars, "spark")


def histogram(counts: Sequence[int], low: float, high: float, kept: tuple[float, float], label: str) -> Markup:
    """A histogram between ``low`` and ``high``, heights logarithmic; what lies outside ``kept`` is marked as clipped."""
    width, height = HISTOGRAM
    step = width / max(1, len(counts))
    top = math.log1p(max(counts, default=0)) or 1.0
    span = max(high - low, 1e-30)
    bars = []
    for number, count in enumerate(counts):
        if count:
            middle = low + (number + 0.5) / len(counts) * span
            tall = max(1.0, math.log1p(count) / top * (height - 2))
            inside = kept[0] <= middle <= kept[1]
            bars.append(
                element(
                    "rect",
                    x=number * step,
                    y=height - tall,
                    width=step * 0.9,
                    height=tall,
                    class_="fill" if inside else "clipped",
                )
            )
    described = f"values from {low:.3g} to {high:.3g}, kept from {kept[0]:.3g} to {kept[1]:.3g}"
    return figure(width, height, label, described, bars, "spark")


Name = Annotated[str, Field(max_length=400)]
Mode = Literal["alone", "weights", "activations", "left-out"]
Finite = Annotated[float, Field(ge=-1e38, le=1e38)]
MODES = {"alone": "this layer", "weights": "its weights", "activations": "its activations", "left-out": "all but it"}


class Score(Piece):
    """Divergence in nats, SNR of the logits, share of equal top-1 answers."""

    kl: Annotated[float, Field(ge=0, le=1e6)]
    snr_db: Finite | None
    agreement: Annotated[float, Field(ge=0, le=1)]


class Input(Piece):
    """Range and histogram of a layer's input."""

    tensor: Name
    low: Finite
    high: Finite
    range_low: Finite
    range_high: Finite
    clipped_ratio: Annotated[float, Field(ge=0, le=1)]
    histogram: Annotated[list[Annotated[int, Field(ge=0, le=1 << 60)]], Field(max_length=256)]


class Weights(Piece):
    """Shape of a layer's weight and what rounding costs it."""

    shape: Annotated[list[int], Field(max_length=8)]
    bits: Annotated[int, Field(ge=1, le=32)]
    snr_db: Finite | None
    channel_spread: Finite


class Layer(Piece):
    """One layer, with a score for each mode of the analysis."""

    name: Name
    op_type: Name
    scores: dict[Mode, Score]
    input: Input
    weights: Weights


class Model(Piece):
    """What was analyzed."""

    name: Name
    sha256: Name


class Sensitivity(Content):
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

    def shown(self, title: str) -> dict[str, object]:
        """Itself, its headline, modes and rows."""
        modes = [(mode, MODES[mode]) for mode in self.modes]
        largest = max((one.kl for layer in self.layers for one in layer.scores.values()), default=0.0)
        return {
            "kind": "sensitivity",
            "analysis": self,
            "headline": headline(self),
            "modes": modes,
            "rows": [_row(layer, modes, largest) for layer in self.layers],
        }


def sensitivity(title: str, stage: str, analysis: Mapping[str, Any], note: str | None = None) -> Attachment:
    """An analysis with schema ``deploykit.sensitivity/1``, as ``quantize --analyze`` writes it.

    Raises:
        BadInput: it does not fit its schema.
    """
    return made("sensitivity", title, stage, note, analysis)


@dataclass(frozen=True)
class Row:
    """A layer with its pictures.

    Attributes:
        layer: as analyzed.
        bars: score and bar of each mode.
        picture: of its input.
    """

    layer: Layer
    bars: list[tuple[Score, Markup]]
    picture: Markup


def to_page(analysis: Sensitivity) -> str:
    """The self-contained page of an analysis."""
    return render("sensitivity.html", **analysis.shown(analysis.model.name))


def headline(analysis: Sensitivity) -> str:
    """The analysis in one sentence."""
    layers, mode = analysis.layers, analysis.modes[0]
    if not layers:
        return "No layer would be quantized."
    scores = [layer.scores[mode].kl for layer in layers]
    if mode == "left-out" or sum(scores) <= 0:
        return f"{layers[0].name} stands first of {len(layers)} layers."
    held, few = 0.0, 0
    while held < 0.9 * sum(scores):
        held += scores[few]
        few += 1
    most = f"{layers[0].name} costs most: a divergence of {scores[0]:.2g} nats"
    verb = "makes" if few == 1 else "make"
    return f"{most}. {few} of {len(layers)} layers {verb} 90 % of the sum over layers."


def _row(layer: Layer, modes: list[tuple[Mode, str]], largest: float) -> Row:
    seen = layer.input
    bars = [
        (layer.scores[mode], log_bar(layer.scores[mode].kl, largest, f"{layer.name}, {shown}")) for mode, shown in modes
    ]
    ends = (seen.range_low, seen.range_high)
    return Row(layer, bars, histogram(seen.histogram, seen.low, seen.high, ends, f"input of {layer.name}"))
