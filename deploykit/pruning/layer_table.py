"""The layers of a network before and after pruning, as a table and as bars for the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from deploykit.config.prune import PruneConfig
from deploykit.reporting.attachments import Attachment, bars, table

if TYPE_CHECKING:
    from deploykit.models import Counts

BARS = 500


class PrunedLayer(TypedDict):
    """One layer call before and after pruning; ``ms`` where layers were timed."""

    name: str
    type: str
    width: list[int]
    macs: list[int]
    params: list[int]
    ms: NotRequired[list[float | None]]


def layer_rows(before: Counts, after: Counts) -> list[PrunedLayer]:
    """One row per layer call, in the order of running."""
    return [
        {
            "name": old.name,
            "type": old.type,
            "width": [_width(old), _width(new)],
            "macs": [old.macs, new.macs],
            "params": [old.params, new.params],
        }
        for old, new in zip(before.layers, after.layers, strict=True)
    ]


def _width(layer: Any) -> int:
    """Output channels: the second dimension of a picture's, the last of a vector's."""
    shape = layer.out_shape
    return int(shape[1] if layer.type.startswith("Conv") else shape[-1])


def attachments(
    rows: list[PrunedLayer], accuracy: dict[str, float | None] | None, config: PruneConfig
) -> list[Attachment]:
    """What the report shows of a pruning: widths as bars, layers as a table, what each step did to the accuracy."""
    timed = bool(rows) and "ms" in rows[0]
    columns: list[Any] = [{"name": "layer", "align": "left"}, {"name": "type", "align": "left"}]
    for name in ("width", "MACs", "parameters"):
        columns += [f"{name} before", f"{name} after"]
    if timed:
        columns += [{"name": f"time {when}", "unit": "ms", "digits": 3} for when in ("before", "after")]
    cells = [
        [row["name"], row["type"], *row["width"], *row["macs"], *row["params"], *(row["ms"] if timed else ())]
        for row in rows
    ]
    widths = {row["name"]: row["width"] for row in rows}
    found = [
        bars("Widths of the layers", "prune", "channels", ["before", "after"], dict(list(widths.items())[:BARS])),
        table("Layers before and after pruning", "prune", columns, cells),
    ]
    if accuracy is not None:
        known = [(name.replace("_", " "), value) for name, value in accuracy.items() if value is not None]
        found.append(
            table(
                "Accuracy before any training",
                "prune",
                [{"name": "step", "align": "left"}, {"name": "top-1 on select", "unit": "%", "digits": 2}],
                [[name, 100 * value] for name, value in known],
                note=f"Importance {config.importance}, scope {config.scope}, {config.steps} steps.",
            )
        )
    return found
