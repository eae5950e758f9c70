"""The page of a sensitivity analysis: which layers int8 hurts, and what their tensors look like."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from deploykit.reporting.attachments.sensitivity_schema import Layer, Mode, Score, Sensitivity
from deploykit.reporting.charts.sparks import histogram, log_bar
from deploykit.reporting.pages import render

MODES = {"alone": "this layer", "weights": "its weights", "activations": "its activations", "left-out": "all but it"}


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
    return render("sensitivity.html", **table_context(analysis))


def table_context(analysis: Sensitivity) -> dict[str, object]:
    """What the templates need to show an analysis: itself, its headline, modes and rows."""
    modes = [(mode, MODES[mode]) for mode in analysis.modes]
    largest = max((one.kl for layer in analysis.layers for one in layer.scores.values()), default=0.0)
    return {
        "analysis": analysis,
        "headline": headline(analysis),
        "modes": modes,
        "rows": [_row(layer, modes, largest) for layer in analysis.layers],
    }


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
