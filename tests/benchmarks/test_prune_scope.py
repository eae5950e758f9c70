"""Which channels should compete: the scopes of pruning at equal measured latency, on three networks, three seeds each.

The official MobileNetV2, fine-tuned on photos, and two networks trained here are pruned by every scope to the MACs at which each is
just as fast as is asked, measured in turns with the input; then each is trained for one epoch from three seeds, and judged image by
image. What was made is kept in pytest's cache folder, so that an interrupted benchmark goes on where it was.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks.real_photos import official_mobilenet_v2
from tests.benchmarks.results import publish, table, told, where_measured
from tests.benchmarks.synthetic_net import answered_right, interval_pt
from tests.benchmarks.test_prune_latency import blocks_ms
from tests.benchmarks.test_real_pruned import _data as photo_data

pytestmark = [pytest.mark.bench, pytest.mark.timeout(7200)]

SCOPES = ("local", "global", "isomorphic", "allocated")
LATENCY, SEEDS, HALVINGS, ROUNDS = 0.6, (0, 1, 2), 4, 60
SYNTHETIC = "synthetic:0,train=4000,test=2000"
NETWORKS: dict[str, dict[str, Any]] = {
    "mobilenet_v2 (official)": {"arch": "torchvision:mobilenet_v2", "lr": 0.005, "epochs": 2, "size": 96},
    "resnet14": {
        "arch": "deploykit:resnet",
        "kwargs": {"depth": 14, "widths": [32, 64, 128], "stem_stride": 2},
        "lr": 0.02,
        "epochs": 6,
    },
    "mobilenetv2 of deploykit": {"arch": "deploykit:mobilenetv2", "lr": 0.02, "epochs": 4},
}


def _teacher(name: str, data: str, folder: Path) -> Path:
    from deploykit.commands.train import train
    from deploykit.config.train import ModelConfig, TrainConfig

    net = NETWORKS[name]
    weights = str(official_mobilenet_v2()) if "official" in name else None
    model = ModelConfig(arch=net["arch"], kwargs=net.get("kwargs", {}), weights=weights)
    lr = net["lr"] if weights else 0.1
    config = TrainConfig(model=model, data=data, epochs=net["epochs"], lr=lr, threads=1, size=net.get("size"))
    return train(folder / "teacher.pt", config).output


def _pruned(teacher: Path, scope: str, folder: Path, data: str) -> dict[str, Any]:
    """The widest network of a scope that is within the latency."""
    from deploykit.commands.prune import prune
    from deploykit.config.prune import PruneConfig

    kept = folder / f"{scope}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    low, high, output = 0.15, 0.95, folder / f"{scope}.pt"
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        prune(teacher, output, PruneConfig(macs=middle, scope=scope, threads=1), force=True)
        ms = blocks_ms([teacher, output], ROUNDS)
        low, high = (middle, high) if np.median(ms[:, 1] / ms[:, 0]) <= LATENCY else (low, middle)
    facts = prune(teacher, output, PruneConfig(macs=low, scope=scope, data=data, threads=1), force=True).facts
    ms = blocks_ms([teacher, output], 4 * ROUNDS)
    found = {
        "macs": facts["macs"]["kept"],
        "of_input": float(np.median(ms[:, 1] / ms[:, 0])),
        "select": facts["top1_select"],
    }
    kept.write_text(json.dumps(found))
    return found


def _trained(pruned: Path, data: str, lr: float, seed: int) -> Path:
    from deploykit.commands.train import train
    from deploykit.config.train import ModelConfig, TrainConfig

    config = TrainConfig(model=ModelConfig(weights=str(pruned)), data=data, epochs=1, lr=lr, seed=seed, threads=1)
    return train(pruned.with_name(f"{pruned.stem}.{seed}.pt"), config).output


def test_prune_scope(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    from deploykit.data import open_data

    shared = Path(request.config.cache.mkdir("prune_scope"))
    monkeypatch.setenv("DEPLOYKIT_CACHE_DIR", str(shared / "cache"))
    where = where_measured("torch", "torchvision", "onnxruntime-gpu", "numpy")
    result: dict[str, Any] = {"asked": LATENCY, "seeds": list(SEEDS), "networks": {}}
    for name in NETWORKS:
        folder = shared / name.replace(" ", "-")
        folder.mkdir(exist_ok=True)
        data = str(photo_data(shared)) if "official" in name else SYNTHETIC
        teacher, test = _teacher(name, data, folder), open_data(data).split("test")
        rows: dict[str, Any] = {}
        right: dict[str, np.ndarray] = {}
        for scope in SCOPES:
            rows[scope] = _pruned(teacher, scope, folder, data)
            rows[scope]["untrained"] = float(answered_right(folder / f"{scope}.pt", test).mean())
        for seed in SEEDS:  # a seed of every scope before the next, so that a part of it can be compared
            for scope in SCOPES:
                made = _trained(folder / f"{scope}.pt", data, NETWORKS[name]["lr"], seed)
                again = answered_right(made, test).astype(float)[None]
                right[scope] = np.concatenate([right[scope], again]) if scope in right else again
                rows[scope]["top1"] = right[scope].mean(axis=1).tolist()
            for scope in SCOPES[1:]:
                gain = right[scope].mean(axis=0) - right["local"].mean(axis=0)
                rows[scope]["over_local"] = interval_pt(gain)
            whole = float(answered_right(teacher, test).mean())
            result["networks"][name] = {"teacher": whole, "n": len(test), "seeds": seed + 1, "scopes": rows}
            publish("prune_scope", {"where": where, **result}, _text(result, where))


def _text(result: dict[str, Any], where: dict[str, Any]) -> str:
    heads = [
        "network",
        "scope",
        "of the MACs %",
        "of the time %",
        "untrained top-1 %",
        "top-1 %",
        "over local pt (95 %)",
    ]
    cells = []
    for name, found in result["networks"].items():
        for scope, row in found["scopes"].items():
            gain = row.get("over_local")
            told_gain = (
                "" if gain is None else f"{gain['estimate_pt']:+.2f} ({gain['low_pt']:+.2f} … {gain['high_pt']:+.2f})"
            )
            each = " / ".join(f"{100 * one:.2f}" for one in row["top1"])
            mean = 100 * float(np.mean(row["top1"]))
            numbers = [f"{100 * row[key]:.1f}" for key in ("macs", "of_input", "untrained")]
            cells.append(
                [f"{name}, {100 * found['teacher']:.2f} %", scope, *numbers, f"{mean:.2f} ({each})", told_gain]
            )
    seeds = ", ".join(f"{name} {found['seeds']}" for name, found in result["networks"].items())
    return (
        f"# Scopes of pruning at equal latency\n\nPruned to at most {100 * result['asked']:g} % of the input's time on ONNX "
        "Runtime's CPU provider (fp32, batch 1, 1 thread, measured in turns), then one epoch; top-1 on test images, intervals paired "
        f"over them. Seeds: {seeds}, of {len(result['seeds'])}.\n\n{table(heads, cells)}\n\n{told(where)}"
    )
