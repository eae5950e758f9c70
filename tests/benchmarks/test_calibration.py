"""What calibration and the sensitivity sweep of ResNet-50 cost beside running it, and whether memory grows with pictures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.benchmarks.int8_files import float_file
from tests.benchmarks.results import publish, table, told, where_measured
from tests.benchmarks.test_memory import _network, _pictures

pytestmark = [pytest.mark.bench, pytest.mark.timeout(7200)]

IMAGES, PASSES = 512, 2.0
SWEEP_IMAGES, SWEEP_PASSES = 32, 60.0
FEW, MANY, GROWTH = 50, 5000, 1.10
LIBRARIES = ("onnxruntime-gpu", "onnxruntime", "onnx", "numpy")


def _cpu_s(call: Callable[[], object]) -> float:
    """Processor time of this process and its threads: other work on the machine does not count."""
    before = time.process_time()
    call()
    return time.process_time() - before


def _batches(count: int) -> list[np.ndarray]:
    from deploykit.base.preprocessing import Preprocessing
    from deploykit.data import prepare, synthetic_images

    images = synthetic_images(64, (224, 224), 3)
    batches = np.split(prepare(images, Preprocessing((224, 224))), 8)
    return [batches[number % 8] for number in range(count // 8)]


def test_cost(tmp_path: Path) -> None:
    from deploykit.evaluation.graph_runner import Opened
    from deploykit.quantization.calibrate import observe, observed_values
    from deploykit.quantization.qdq.prepare import prepare
    from deploykit.quantization.search import Choice, Quantizer
    from deploykit.quantization.sensitivity import logits_of, sweep

    where = where_measured(*LIBRARIES)
    opened = Opened(tmp_path, threads=1)
    proto = onnx.load(str(float_file("resnet50", "dynamo")))
    wide = prepare(proto)
    graph, values = ir.to_proto(wide), observed_values(wide)
    batches = _batches(IMAGES)
    run = opened.graph(graph)
    run(batches[0])
    rows, seen = [], {}

    def calibrate() -> None:
        seen.update(observe(graph, values, batches, opened.graph))

    float_s = _cpu_s(lambda: [run(batch) for batch in batches])
    rows.append(_row("calibrate, all methods in one pass", IMAGES, float_s, _cpu_s(calibrate), PASSES))
    x = np.concatenate(batches[: SWEEP_IMAGES // 8])
    quantizer, scores = Quantizer(proto, seen), []
    float_s = _cpu_s(lambda: logits_of(graph, x, opened.graph))
    swept_s = _cpu_s(lambda: scores.extend(sweep(quantizer, Choice(), x, opened.graph)))
    rows.append(_row(f"sensitivity, {len(scores)} layers alone", SWEEP_IMAGES, float_s, swept_s, SWEEP_PASSES))
    heads = ["what", "pictures", "float pass s", "it takes s", "float passes", "limit"]
    shown = [
        [r["what"], str(r["images"]), f"{r['float_s']:.1f}", f"{r['s']:.1f}", f"{r['passes']:.2f}", f"{r['limit']:g}"]
        for r in rows
    ]
    text = [
        "# Cost of calibration and of the sensitivity sweep, ResNet-50 at 224 px",
        "",
        told(where),
        "One thread, batches of 8; processor time, so that other work on the machine does not count. The float pass of",
        "calibration runs an opened network, that of the sweep opens it, as the sweep opens each candidate.",
        "",
        table(heads, shown),
    ]
    publish("calibration_cost", {"where": where, "rows": rows}, "\n".join(text))
    assert all(row["passes"] <= row["limit"] for row in rows)


def _row(what: str, images: int, float_s: float, spent_s: float, limit: float) -> dict[str, Any]:
    return {
        "what": what,
        "images": images,
        "float_s": float_s,
        "s": spent_s,
        "passes": spent_s / float_s,
        "limit": limit,
    }


def _peak(*words: str) -> tuple[int, dict[str, Any]]:
    """Peak resident bytes of one ``deploykit`` process, and what it printed."""
    command = [sys.executable, "-m", "deploykit.cli.main", *words, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    # Of random weights int8 may answer no, which is said when all is done.
    assert process.returncode in (0, 1), printed
    return usage.ru_maxrss * 1024, json.loads(printed)


def test_calibration_memory(tmp_path: Path) -> None:
    where = where_measured(*LIBRARIES)
    data = _pictures(tmp_path / "data", 8)
    _many_train(data)
    model, small = _network(tmp_path / "m.pt"), tmp_path / "small.onnx"
    _peak("export", str(model), "-o", str(small), "--size", "64")
    rows = []
    for count in (FEW, MANY):
        output = tmp_path / f"{count}.onnx"
        words = ("--data", str(data), "--images", str(count), "--batch", "8", "--method", "mse", "--equalize", "off")
        ranges = tmp_path / f"{count}.ranges"
        peak, _ = _peak("quantize", str(small), "-o", str(output), *words, "--ranges", str(ranges))
        held = json.loads(ranges.read_text())
        rows.append({"images": count, "peak_bytes": peak, "calibrated_on": held["done"]})
    growth = rows[1]["peak_bytes"] / rows[0]["peak_bytes"]
    text = [
        "# Peak memory of `deploykit quantize`, ResNet-50 at 64 px",
        "",
        told(where),
        "Peak resident memory of the whole process, libraries included, calibration in batches of 8 with all methods' statistics.",
        "",
        table(["pictures", "peak MiB"], [[str(r["images"]), f"{r['peak_bytes'] / 2**20:,.0f}"] for r in rows]),
        "",
        f"{growth:.3f} times as much with {MANY:,} pictures as with {FEW}; the limit is {GROWTH:.2f}.",
    ]
    publish("calibration_memory", {"where": where, "limit": GROWTH, "growth": growth, "rows": rows}, "\n".join(text))
    assert [row["calibrated_on"] for row in rows] == [FEW, MANY]
    assert growth <= GROWTH


def _many_train(data: Path) -> None:
    """``MANY`` pictures to calibrate on and a ninth more, of which ``select`` is made; each differs from every other."""
    from PIL import Image

    from deploykit.data import synthetic_images

    base = synthetic_images(16, (64, 64), 5)
    for number in range(MANY * 10 // 8):
        image = base[number % len(base)].copy()
        image[:4, : 4 * 16] = np.repeat(255 * np.array([int(bit) for bit in f"{number:016b}"], np.uint8), 4)[
            None, :, None
        ]
        Image.fromarray(image).save(data / "train" / "ab"[number % 2] / f"many{number}.jpg", quality=90)
