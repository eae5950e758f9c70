"""The page of a sensitivity analysis: which layers int8 hurts, and what their tensors look like."""

from __future__ import annotations

from typing import Any

from deploykit._version import __version__
from deploykit.reporting.charts.sparks import histogram, log_bar

MODES = {"alone": "this layer", "weights": "its weights", "activations": "its activations", "left-out": "all but it"}


def to_page(analysis: dict[str, Any]) -> str:
    """The self-contained page of an analysis with schema ``deploykit.sensitivity/1``."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("deploykit.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return pages.get_template("sensitivity.html").render(version=__version__, **table_context(analysis))


def table_context(analysis: dict[str, Any]) -> dict[str, Any]:
    """What the templates need to show an analysis: itself, its headline, modes and rows."""
    modes = [(mode, MODES[mode]) for mode in analysis["modes"]]
    largest = _largest(analysis)
    return {
        "analysis": analysis,
        "headline": headline(analysis),
        "modes": modes,
        "rows": [_row(layer, modes, largest) for layer in analysis["layers"]],
    }


def headline(analysis: dict[str, Any]) -> str:
    """The analysis in one sentence."""
    layers, mode = analysis["layers"], analysis["modes"][0]
    if not layers:
        return "No layer would be quantized."
    scores = [layer["scores"][mode]["kl"] for layer in layers]
    if mode == "left-out" or sum(scores) <= 0:
        return f"{layers[0]['name']} stands first of {len(layers)} layers."
    held, few = 0.0, 0
    while held < 0.9 * sum(scores):
        held += scores[few]
        few += 1
    most = f"{layers[0]['name']} costs most: a divergence of {scores[0]:.2g} nats"
    verb = "makes" if few == 1 else "make"
    return f"{most}. {few} of {len(layers)} layers {verb} 90 % of the sum over layers."


def _largest(analysis: dict[str, Any]) -> float:
    kl = [one["kl"] for layer in analysis["layers"] for one in layer["scores"].values()]
    return float(max(kl, default=0.0))


def _row(layer: dict[str, Any], modes: list[tuple[str, str]], largest: float) -> dict[str, Any]:
    seen, name = layer["input"], layer["name"]
    return {
        **layer,
        "bars": [
            (layer["scores"][mode], log_bar(layer["scores"][mode]["kl"], largest, f"{name}, {shown}"))
            for mode, shown in modes
        ],
        "picture": histogram(
            seen["histogram"],
            seen["low"],
            seen["high"],
            (seen["range_low"], seen["range_high"]),
            f"input of {name}",
        ),
    }
