"""What a run tells people at its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def plan_of(name: str, folder: Path, stages: Sequence[Sequence[str]]) -> str:
    """What a run would do.

    Args:
        name: of the recipe.
        folder: of the run.
        stages: name, status and reason of each.
    """
    return "\n".join([f"{name}: what `deploykit run` would do in {folder}", *table(stages)])


def summary_of(report: dict[str, Any], folder: Path, statuses: Sequence[str], gate: str | None) -> str:
    """Variants, pick, stages, gate and the report's place.

    Args:
        report: of the run.
        folder: of the run.
        statuses: what became of each stage.
        gate: its verdict for people, or None where the recipe has none.
    """
    head = ["variant", "target", "status", "p50", "speed-up", "top-1", "drop", "size"]
    lines = table([head, *([*_cells(variant, report["baseline"])] for variant in report["variants"])])
    for variant in report["variants"]:
        if variant["status"] != "ok":
            lines.append(f"{variant['name']} {variant['status']}: {variant['reason']}")
    pick = report.get("pick")
    lines.append(f"pick: {pick['name']}: {pick['why']}" if pick else "pick: none")
    kept = sum(one == "kept" for one in statuses)
    lines.append(f"stages: {len(statuses) - kept} run, {kept} kept")
    if gate is not None:
        lines.append(f"gate: {gate}")
    lines.append(f"report: {(folder / 'report.html').as_posix()}")
    return "\n".join(lines)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as aligned lines."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cells(variant: dict[str, Any], baseline: str | None) -> list[str]:
    timed = next((one for one in variant.get("measurements") or [] if one["timed"] == "compute"), None)
    accuracy, speedup = variant.get("accuracy"), variant.get("speedup")
    artifact = variant.get("artifact")
    drop = accuracy.get("drop_pt") if accuracy else None
    return [
        variant["name"],
        variant["target"],
        variant["status"],
        f"{timed['p50_ms']:.3f} ms" if timed else "–",
        "baseline" if variant["name"] == baseline else _speedup(speedup),
        f"{100 * accuracy['top1']:.2f} %" if accuracy else "–",
        f"{drop:+.2f} pt" if drop is not None else "–",
        f"{artifact['bytes'] / 1e6:.2f} MB" if artifact else "–",
    ]


def _speedup(speedup: dict[str, Any] | None) -> str:
    if not speedup:
        return "–"
    interval = f" [{speedup['low']:.2f}, {speedup['high']:.2f}]" if speedup.get("low") is not None else ""
    return f"{speedup['estimate']:.2f}×{interval}"
