"""The export of every torchvision classification model, one process each, as a table.

``python -m tests.exporting.torchvision_table`` fills in the rows that are missing or failed and can be stopped at any time;
``tests/exporting/test_torchvision.py`` makes each row anew and holds it to its budget.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "recipes" / "results"
SIZES = {"inception_v3": 299}
LIMIT_S = 3600
ORT_PACKAGES = ("onnxruntime", "onnxruntime-gpu")
LETTERS = "ABCDEFGH"


def names() -> list[str]:
    """All classification models of torchvision, the smallest first."""
    import torchvision

    def parameters(name: str) -> int:
        return max(w.meta["num_params"] for w in torchvision.models.get_model_weights(name))

    return sorted(torchvision.models.list_models(module=torchvision.models), key=parameters)


def export_one(name: str) -> dict[str, Any]:
    """Export one network with random weights in this process; the row of the table."""
    import resource

    import torch

    from deploykit.base.checkpoint import Arch
    from deploykit.base.errors import DeploykitError
    from deploykit.base.preprocessing import Preprocessing
    from deploykit.commands.export import export
    from deploykit.config.export import ExportConfig
    from deploykit.models import build, save_model

    torch.manual_seed(0)
    size = SIZES.get(name, 224)
    arch = Arch("torchvision", name, {"num_classes": 1000})
    module = build(arch)
    for weight in module.parameters():
        if not weight.any() and weight.ndim > 1:  # the vision transformers' heads: zeros would agree with anything
            torch.nn.init.normal_(weight, std=0.02)
    row: dict[str, Any] = {"model": name, "params": sum(p.numel() for p in module.parameters()), "size": size}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        classes = tuple(str(i) for i in range(1000))
        save_model(path, module, arch, Preprocessing((size, size)), classes, lineage=[], samples=None)
        del module
        start = time.perf_counter()
        try:
            result = export(path, config=ExportConfig())
        except DeploykitError as error:
            row |= {"ok": False, "reason": error.line()}
        else:
            facts = result.facts
            row |= {
                "ok": True,
                "opset": facts["opset"],
                "exporter": facts["exporter"],
                "tried": facts["tried"],
                "nodes": sum(facts["nodes"].values()),
                "batch_norms_left": facts["batch_norms_left"],
                "snr_db": facts["parity"]["snr_db"],
                "top1_agreement": facts["parity"]["top1_agreement"],
                "external_data": len(result.files) > 1,
                "bytes": sum((result.output.parent / file).stat().st_size for file in result.files),
            }
        row["seconds"] = round(time.perf_counter() - start, 1)
    row["peak_memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return row


def in_process_of_its_own(name: str) -> dict[str, Any]:
    """:func:`export_one` in a fresh process, so that memory is bounded by one network and its peak is its own."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.exporting.torchvision_table", name],
            cwd=FOLDER.parents[1],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"model": name, "ok": False, "reason": f"not done after {LIMIT_S} s"}
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        why = said[-1] if said else f"ended with code {done.returncode}"
        return {"model": name, "ok": False, "reason": why}
    row: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return row


def read_rows() -> dict[str, dict[str, Any]]:
    """The rows so far, by model."""
    place = FOLDER / "export_torchvision.json"
    return {row["model"]: row for row in json.loads(place.read_text())["rows"]} if place.exists() else {}


def machine() -> dict[str, Any]:
    """The processor and the libraries that a row was made with."""
    from deploykit.base.environment import cpu, library_versions

    known = cpu()
    libraries = library_versions(("torch", "torchvision", "onnx", "onnxscript", "onnx-ir", *ORT_PACKAGES))
    return {"cpu": known["model"], "cores": known["cores"], "libraries": libraries}


def write_row(row: dict[str, Any]) -> None:
    """Add or replace one row in the JSON and Markdown tables."""
    from deploykit.base.atomic import write_json, write_text

    row = {**row, "machine": machine()}
    rows = sorted((read_rows() | {row["model"]: row}).values(), key=lambda one: one["model"])
    write_json(FOLDER / "export_torchvision.json", {"rows": rows})
    write_text(FOLDER / "export_torchvision.md", markdown(rows))


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table for people; rows name their machine by a letter."""
    good = sum(bool(row["ok"]) for row in rows)
    machines = [one for i, row in enumerate(rows) if (one := row["machine"]) not in [r["machine"] for r in rows[:i]]]
    lines = [
        "# Export of torchvision's classification models",
        "",
        f"{good} of {len(rows)} export and agree with PyTorch at batch 1, 2 and 8 (random weights, synthetic pictures; "
        "fp32 budget 80 dB), one process and one thread each. Times were taken on busy machines and are upper bounds.",
        "",
    ]
    for letter, one in zip(LETTERS, machines, strict=False):
        versions = ", ".join(f"{name} {version}" for name, version in one["libraries"].items())
        lines.append(f"* {letter}: {one['cpu']}, {one['cores']} cores; {versions}")
    lines += [
        "",
        "| Model | Parameters, M | Opset | Exporter | Nodes | BatchNorms left | SNR, dB | File, MB | Peak memory, GB | Time, s | On |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        letter = LETTERS[machines.index(row["machine"])]
        if not row["ok"]:
            lines.append(f"| {row['model']} | | | | | | fails: {row['reason'].replace('|', ' ')} | | | | {letter} |")
            continue
        snr = "identical" if row["snr_db"] is None else f"{row['snr_db']:.1f}"
        beside = " (+ .data)" if row["external_data"] else ""
        lines.append(
            f"| {row['model']} | {row['params'] / 1e6:.1f} | {row['opset']} | {row['exporter']} | {row['nodes']} "
            f"| {row['batch_norms_left']} | {snr} | {row['bytes'] / 1e6:.1f}{beside} "
            f"| {row['peak_memory_bytes'] / 1e9:.2f} | {row['seconds']:.0f} | {letter} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """With a model's name: its row as JSON on stdout. Without: all rows that are missing or failed, the smallest model first."""
    if len(sys.argv) > 1:
        print(json.dumps(export_one(sys.argv[1])))
        return
    for name in names():
        if not read_rows().get(name, {"ok": False})["ok"]:
            row = in_process_of_its_own(name)
            write_row(row)
            print(name, "ok" if row["ok"] else row["reason"], row.get("seconds"), flush=True)


if __name__ == "__main__":
    main()
