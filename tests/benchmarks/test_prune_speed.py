"""How fast networks are at half their multiply-accumulates, float and int8, by the commands that a user would type.

ResNet-18 and MobileNetV2 at 224 pixels with random weights are pruned by measured latency (``prune --latency``) and, beside it,
alike everywhere (``prune --macs 0.52``), exported and quantized; then all files are timed in turns against the unpruned float
network: ONNX Runtime, CPU, one thread, batch 1. Random weights have near ties for top-1, on which ``quantize`` would rightly refuse
its file; here one class is given a lead by its bias, which says nothing of accuracy and changes no time. Files that are made are
kept in pytest's cache folder.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks.results import publish, table, told, where_measured

pytestmark = [pytest.mark.bench, pytest.mark.timeout(7200)]

DATA = "synthetic:0,train=128,test=64,size=224"
MACS, LATENCY = 0.52, 0.48
MARKS = {"resnet18": {"fp32": 2.0, "int8": 6.2}, "mobilenet_v2": {"fp32": 2.0, "int8": 3.3}}
WAYS = {"latency": ("--latency", f"{LATENCY}"), "uniform": ("--macs", f"{MACS}")}
TIMED_S, LEAST_ROUNDS, CALLS_S = 60.0, 40, 0.04
LEAD = 20.0


def _run(*words: str | Path) -> dict[str, Any]:
    """One command of deploykit; what it says as JSON."""
    command = [
        sys.executable,
        "-c",
        "from deploykit.cli.main import main; main()",
        *map(str, words),
        "--json",
        "--quiet",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _model(network: str, path: Path) -> Path:
    """Random weights, BatchNorm estimated on pictures, one class in the lead."""
    import torch

    from deploykit.base.preprocessing import Preprocessing
    from deploykit.data import open_data
    from deploykit.models import build, parse_arch, save_model
    from deploykit.models.batch_norm import reestimate_batch_norm

    if path.exists():
        return path
    torch.manual_seed(0)
    arch, preprocessing, data = parse_arch(f"torchvision:{network}"), Preprocessing((224, 224)), open_data(DATA)
    module = build(arch, len(data.classes)).eval()
    reestimate_batch_norm(module, (x for x, _ in data.split("train").batches(16, preprocessing)))
    head = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)][-1]
    with torch.no_grad():
        head.bias[0] += LEAD
    save_model(path, module, arch, preprocessing, list(data.classes))
    return path


def _files(network: str, folder: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    """Name → ONNX file of everything timed, the unpruned float network first; and what the prunings say."""
    model = _model(network, folder / f"{network}.pt")
    files, facts = {}, {}
    for way in (None, *WAYS):
        source = model
        if way is not None:
            source = folder / f"{network}.{way}.pt"
            facts[way] = _run("prune", model, *WAYS[way], "--data", DATA, "-o", source)
        prefix = "" if way is None else f"{way} "
        files[f"{prefix}fp32"] = source.with_suffix(".onnx")
        files[f"{prefix}int8"] = source.with_suffix(".int8.onnx")
        _run("export", source, "-o", files[f"{prefix}fp32"])
        _run("quantize", files[f"{prefix}fp32"], "--data", DATA, "-o", files[f"{prefix}int8"])
    return files, facts


def _timed(files: dict[str, Path]) -> dict[str, np.ndarray]:
    """Seconds a call, [rounds], of blocks in random order."""
    from tests.benchmarks.int8_timing import session

    x = np.random.default_rng(0).standard_normal((1, 3, 224, 224), dtype=np.float32)
    opened = {name: session(path) for name, path in files.items()}

    def block(name: str, calls: int) -> float:
        run, given = opened[name].run, {opened[name].get_inputs()[0].name: x}
        run(None, given)
        start = time.perf_counter()
        for _ in range(calls):
            run(None, given)
        return (time.perf_counter() - start) / calls

    calls = {name: max(2, int(CALLS_S / min(block(name, 1) for _ in range(3)))) for name in files}
    found: dict[str, list[float]] = {name: [] for name in files}
    random, start, order = np.random.default_rng(0), time.perf_counter(), list(files)
    while len(found[order[0]]) < LEAST_ROUNDS or time.perf_counter() - start < TIMED_S:
        for index in random.permutation(len(order)):
            found[order[index]].append(block(order[index], calls[order[index]]))
    return {name: np.asarray(times) for name, times in found.items()}


def test_prune_speed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    from deploykit.stats.ratio import speed_up, speed_up_interval

    folder = Path(request.config.cache.mkdir("prune_speed"))
    monkeypatch.setenv("DEPLOYKIT_CACHE_DIR", str(folder / "cache"))
    made = {network: _files(network, folder) for network in MARKS}
    where = where_measured("torch", "torchvision", "onnxruntime-gpu", "numpy")
    rows: list[dict[str, Any]] = []
    for network, (files, facts) in made.items():
        times = _timed(files)
        for name, one in times.items():
            way, _, precision = name.rpartition(" ")
            base = times["fp32"]
            rows.append(
                {
                    "network": network,
                    "way": way or "unpruned",
                    "precision": precision,
                    "macs_kept": facts[way]["macs"]["kept"] if way else 1.0,
                    "params_kept": facts[way]["params"]["kept"] if way else 1.0,
                    "latency": facts[way]["latency"] if way else None,
                    "ms": 1e3 * float(np.median(one)),
                    "rounds": len(one),
                    "speed_up": [speed_up(base, one), *speed_up_interval(base, one)],
                    "mark": MARKS[network][precision] if way == "latency" else None,
                }
            )
    publish("prune_speed", {"where": where, "data": DATA, "rows": rows}, _text(where, rows))
    for row in rows:
        if row["mark"] is not None:
            assert row["macs_kept"] <= MACS
            assert row["speed_up"][1] >= row["mark"], row


def _text(where: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    lines = [
        [
            row["network"],
            {"unpruned": "unpruned", "latency": f"`--latency {LATENCY}`", "uniform": f"`--macs {MACS}`"}[row["way"]],
            row["precision"],
            f"{100 * row['macs_kept']:.1f}",
            f"{row['ms']:.2f}",
            "{:.2f}× ({:.2f} … {:.2f})".format(*row["speed_up"]),
            "–" if row["mark"] is None else f"{row['mark']:.1f}×",
        ]
        for row in rows
    ]
    heads = ["network", "pruned by", "precision", "MACs kept %", "ms", "speed-up over unpruned fp32 (95 %)", "at least"]
    return "\n".join(
        [
            "# Speed of pruned networks",
            "",
            "Random weights, 224 px, ONNX Runtime CPU, one thread, batch 1; `deploykit prune`, `export` and `quantize` with their defaults; "
            "blocks of all files of a network interleaved, speed-ups are paired ratios.",
            "",
            table(heads, lines),
            "",
            told(where),
        ]
    )
