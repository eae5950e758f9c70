"""Peak memory of export and evaluation of ResNet-50, and of evaluating 50 and 5,000 pictures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks.results import publish, table, told, where_measured

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

LIMIT_BYTES = 4 << 30
GROWTH_BYTES = 100 << 20
FEW, MANY = 50, 5000
CLASSES = ("a", "b")


def _pictures(root: Path, count: int) -> Path:
    """Folders ``train`` and ``val`` of two classes; every picture differs from every other."""
    from PIL import Image

    from deploykit.data import synthetic_images

    base = synthetic_images(16, (160, 160), 0)
    for split, many in (("train", 4), ("val", count)):
        for name in CLASSES:
            (root / split / name).mkdir(parents=True)
        for number in range(many):
            image = base[number % len(base)].copy()
            code = np.array([int(bit) for bit in f"{number:016b}{split == 'val':b}"], np.uint8)
            image[:8, : 8 * len(code)] = np.repeat(255 * code, 8)[None, :, None]
            Image.fromarray(image).save(root / split / CLASSES[number % 2] / f"{number}.jpg", quality=90)
    return root


def _network(path: Path) -> Path:
    import torch

    from deploykit.base.preprocessing import Preprocessing
    from deploykit.models import build, parse_arch, save_model

    torch.manual_seed(0)
    arch = parse_arch("torchvision:resnet50:num_classes=2")
    save_model(path, build(arch).eval(), arch, Preprocessing((224, 224), resize=232), list(CLASSES))
    return path


def _peak(*words: str) -> tuple[int, dict[str, Any]]:
    """Peak resident bytes of one ``deploykit`` process and its children, and the object that it printed."""
    command = [sys.executable, "-m", "deploykit.cli.main", *words, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, printed
    return usage.ru_maxrss * 1024, json.loads(printed)


def test_memory(tmp_path: Path) -> None:
    where = where_measured("torch", "torchvision", "onnx", "onnxruntime-gpu", "numpy")
    few, many = _pictures(tmp_path / "few", FEW), _pictures(tmp_path / "many", MANY)
    model, graph, small = _network(tmp_path / "m.pt"), tmp_path / "m.onnx", tmp_path / "small.onnx"
    rows: list[dict[str, Any]] = []

    def run(what: str, *words: str, images: int | None = None) -> int:
        peak, printed = _peak(*words)
        if images is not None:
            assert [one["accuracy"]["n"] for one in printed["variants"]] == [images]
        rows.append({"what": what, "images": images, "peak_bytes": peak})
        return peak

    run("export, 224 px", "export", str(model), "-o", str(graph), "--data", str(few))
    run("export, 64 px", "export", str(model), "-o", str(small), "--size", "64")
    run("evaluate torch-eager, 224 px", "evaluate", str(model), "--data", str(few), images=FEW)
    run("evaluate ort-cpu, 224 px", "evaluate", str(graph), "--data", str(few), images=FEW)
    peaks = {
        count: run("evaluate ort-cpu, 64 px", "evaluate", str(small), "--data", str(data), images=count)
        for count, data in ((FEW, few), (MANY, many))
    }
    shown = [[r["what"], str(r["images"] or ""), f"{r['peak_bytes'] / 2**20:,.0f}"] for r in rows]
    text = "\n".join(
        [
            "# Peak memory with torchvision's ResNet-50",
            "",
            told(where),
            "Peak resident memory of the whole process, the interpreter and the libraries included; batch 64 for evaluation.",
            f"Limits: {LIMIT_BYTES >> 20:,} MiB each, and {GROWTH_BYTES >> 20} MiB of growth from {FEW} to {MANY:,} pictures.",
            "",
            table(["command", "pictures", "peak MiB"], shown),
        ]
    )
    publish("memory", {"limit_bytes": LIMIT_BYTES, "growth_limit_bytes": GROWTH_BYTES, **where, "rows": rows}, text)
    assert max(row["peak_bytes"] for row in rows) < LIMIT_BYTES
    assert peaks[MANY] - peaks[FEW] < GROWTH_BYTES
