"""Where benchmarks leave what they found, and with what machine they name it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deploykit.base.environment import cpu, library_versions
from deploykit.latency.machine import busy_share

RESULTS = Path(__file__).parents[2] / "recipes" / "results"


def where_measured(*libraries: str) -> dict[str, Any]:
    """The machine, how busy others keep it just now (0…1), and the versions of deploykit and ``libraries``."""
    return {
        "machine": cpu(),
        "busy_before": round(busy_share(1.0), 3),
        "libraries": library_versions(("deploykit", *libraries)),
    }


def told(where: dict[str, Any]) -> str:
    """:func:`where_measured` in one line."""
    machine = where["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in where["libraries"].items())
    return (
        f"{machine['model']}, {machine['cores']} cores, {', '.join(machine['isa'])}; "
        f"{where['busy_before']:.0%} of it busy with other work before; {versions}."
    )


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, the first column left-aligned."""
    lines = ["| " + " | ".join(heads) + " |", "| :-- |" + " --: |" * (len(heads) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def publish(name: str, result: dict[str, Any], text: str) -> None:
    """Print ``text`` and write both forms to ``recipes/results``."""
    print("\n" + text)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({"benchmark": name, **result}, indent=2) + "\n")
    (RESULTS / f"{name}.md").write_text(text + "\n")
