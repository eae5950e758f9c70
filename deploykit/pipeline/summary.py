"""What a run tells people at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploykit.pipeline.execute import RunResult


def summary_of(result: RunResult) -> str:
    """The plan of a dry run, else variants, pick, stages and the report's place."""
    if result.report is None:
        lines = [f"{result.name}: what `deploykit run` would do in {result.folder}"]
        rows = [[one.name, one.status, one.reason or ""] for one in result.stages]
        return "\n".join([*lines, *table(rows)])
    report = result.report
    head = ["variant", "target", "status", "p50", "speed-up", "top-1", "drop", "size"]
    lines = table([head, *([*_cells(variant, report["baseline"])] for variant in report["variants"])])
    for variant in report["variants"]:
        if variant["status"] != "ok":
            lines.append(f"{variant['name']} {variant['status']}: {variant['reason']}")
    pick = report.get("pick")
    lines.append(f"pick: {pick['name']}: {pick['why']}" if pick else "pick: none")
    kept = sum(one.status == "kept" for one in result.stages)
    lines.append(f"stages: {len(result.stages) - kept} run, {kept} kept")
    if result.gate is not None:
        lines.append(f"gate: {result.gate.gate.summary()}")
    lines.append(f"report: {(result.folder / 'report.html').as_posix()}")
    return "\n".join(lines)


def table(rows: list[list[str]]) -> list[str]:
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
