"""Times of layers as a sorted table: where does the time go, before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deploykit.base.atomic import write_json, write_text
from deploykit.reporting import format as t
from deploykit.reporting.format import escaped, table
from deploykit.reporting.pages import render
from deploykit.reporting.write import marked

NAMES = ("layers.html", "layers.md", "layers.json")
SHOWN = 200


@dataclass(frozen=True)
class LayerRow:
    """One layer; ``us`` and ``shares`` (of the column's total) have a value per column, None where it is not there."""

    layer: str
    ops: str
    us: list[float | None]
    shares: list[float | None]


@dataclass(frozen=True)
class LayerTable:
    """Profiles beside each other; ``totals_us`` are those of the columns."""

    title: str
    columns: list[str]
    totals_us: list[float]
    rows: list[LayerRow]

    def plain(self) -> dict[str, Any]:
        """JSON-able, as it stands in ``layers.json``."""
        return asdict(self)


def layer_table(title: str, profiles: Mapping[str, Mapping[tuple[str, str], float]]) -> LayerTable:
    """Profiles beside each other, the layer that takes most in any of them first.

    Layers are matched by name; where one was fused away or renamed by an engine, it stands with the others' times empty.

    Args:
        title: of the table.
        profiles: column → (layer, operator) → microseconds a call.
    """
    by_name: dict[str, dict[str, tuple[float, set[str]]]] = {}
    for column, times in profiles.items():
        for (layer, op), value in times.items():
            before, ops = by_name.setdefault(layer, {}).get(column, (0.0, set[str]()))
            by_name[layer][column] = (before + value, ops | ({op} if op else set()))
    totals = {column: sum(times.values()) for column, times in profiles.items()}
    rows = [
        LayerRow(
            layer,
            ", ".join(sorted(set().union(*(ops for _, ops in found.values())))),
            [found[column][0] if column in found else None for column in profiles],
            [found[column][0] / totals[column] if column in found and totals[column] else None for column in profiles],
        )
        for layer, found in by_name.items()
    ]
    rows.sort(key=lambda row: (-max(value for value in row.us if value is not None), row.layer))
    return LayerTable(title, list(profiles), list(totals.values()), rows)


def in_words(found: LayerTable) -> str:
    """``int8: before 512 µs, after 208 µs; most in conv1 (Conv): 120 → 48 µs``."""
    totals = ", ".join(
        f"{name} {t.number(value)} µs" for name, value in zip(found.columns, found.totals_us, strict=True)
    )
    if not found.rows:
        return f"{found.title}: {totals}"
    top = found.rows[0]
    values = " → ".join(t.NONE if value is None else t.number(value) for value in top.us)
    return f"{found.title}: {totals}; most in {top.layer}: {values} µs"


def write_layers(tables: list[LayerTable], folder: Path) -> list[Path]:
    """Write the three forms into ``folder``."""
    write_text(folder / NAMES[0], marked(_html(tables)))
    write_text(folder / NAMES[1], marked(_markdown(tables)))
    write_json(folder / NAMES[2], {"schema": "deploykit.layers/1", "tables": [one.plain() for one in tables]})
    return [folder / name for name in NAMES]


def _cells(row: LayerRow) -> list[str]:
    return [
        t.NONE if value is None else f"{t.number(value)} ({t.percent(share, 1)})"
        for value, share in zip(row.us, row.shares, strict=True)
    ]


def _markdown(tables: list[LayerTable]) -> str:
    lines = ["## Where the time goes", "", "Microseconds a call while profiled, with the share of all layers.", ""]
    for one in tables:
        head = ["Layer", "Operators", *map(escaped, one.columns)]
        rows = [[escaped(row.layer), escaped(row.ops), *map(escaped, _cells(row))] for row in one.rows[:SHOWN]]
        lines += [
            f"### {escaped(one.title)}",
            "",
            escaped(in_words(one)),
            "",
            *table(head, rows, "ll" + "r" * len(one.columns)),
            "",
        ]
    return "\n".join(lines)


def _html(tables: list[LayerTable]) -> str:
    shown = [(one, in_words(one), [_cells(row) for row in one.rows]) for one in tables]
    return render("layers.html", tables=shown, most=SHOWN)
