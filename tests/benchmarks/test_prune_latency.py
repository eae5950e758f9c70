"""Channels allocated by measured latency against uniform pruning at equal measured latency, over three seeds.

A trained ResNet-14 is pruned by ``prune --latency``, and by ``prune --macs`` to the least budget whose network takes at least as
long when both are measured in turns: uniform pruning gets all the time that the other has, and a step of width more. Both
round their widths alike and are then trained alike, from three seeds each, and judged picture by picture. What was made, the
measurement too, is kept in pytest's cache folder, so that an interrupted benchmark goes on where it was.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks.results import publish, table, told, where_measured
from tests.benchmarks.synthetic_net import DATA, TOLD, answered_right, interval_pt, trained_teacher

pytestmark = [pytest.mark.bench, pytest.mark.timeout(7200)]

LATENCY, SEEDS = 0.45, (0, 1, 2)
TRAINING = {"epochs": 2, "lr": 0.02, "threads": 1, "augment": {"shift_px": 3}}
HALVINGS = 7
ROUNDS = 400
WAYS = ("latency", "uniform")


def _pruned(teacher: Path, output: Path, **budget: float) -> dict[str, Any]:
    from deploykit.commands.prune import prune
    from deploykit.config.prune import PruneConfig

    made = prune(teacher, output, PruneConfig(data=DATA, threads=1, **budget), force=True)
    return {**made.facts, **made.measured}


def _exported(model: Path) -> Path:
    from deploykit.commands.export import export
    from deploykit.config.export import ExportConfig

    made = model.with_suffix(".onnx")
    if made.exists() and made.stat().st_mtime > model.stat().st_mtime:
        return made
    return export(model, made, ExportConfig(threads=1), force=True).output


def blocks_ms(models: list[Path], rounds: int) -> np.ndarray:
    """Milliseconds a call on one thread, batch 1, [rounds, models]; every round times one block of each in random order."""
    from deploykit.engines import open_runner
    from deploykit.latency.interleave import interleaved_blocks_s

    with ExitStack() as stack:
        runners = {str(path): stack.enter_context(open_runner(_exported(path), threads=1)) for path in models}
        size = runners[str(models[0])].inputs[0].shape[2:]
        x = np.random.default_rng(0).standard_normal((1, 3, *(int(one) for one in size)), dtype=np.float32)
        return 1e3 * np.stack(list(interleaved_blocks_s(runners, x, rounds=rounds).values()), axis=1)


def _uniform_as_slow(teacher: Path, other: Path, output: Path) -> dict[str, Any]:
    """Halve the interval of MACs budgets until the least one whose network takes at least as long as ``other``."""
    low, high = 0.05, 0.95
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        _pruned(teacher, output, macs=middle)
        ms = blocks_ms([other, output], ROUNDS // 5)
        low, high = (low, middle) if np.median(ms[:, 1] / ms[:, 0]) >= 1 else (middle, high)
    return _pruned(teacher, output, macs=high) | {"budget": high}


def _made(teacher: Path, folder: Path) -> dict[str, Any]:
    """Both networks, and how long they take."""
    from deploykit.stats.ratio import speed_up, speed_up_interval

    kept = folder / "made.json"
    if kept.exists():
        return json.loads(kept.read_text())
    by_latency = _pruned(teacher, folder / "latency.pt", latency=LATENCY)
    uniform = _uniform_as_slow(teacher, folder / "latency.pt", folder / "uniform.pt")
    ms = blocks_ms([teacher, folder / "latency.pt", folder / "uniform.pt"], ROUNDS)
    found = {
        "where": where_measured("torch", "onnxruntime-gpu", "numpy"),
        "latency": {key: by_latency[key] for key in ("macs", "params", "latency", "layers")},
        "uniform": {key: uniform[key] for key in ("macs", "params", "budget", "layers")},
        "ms": {name: float(np.median(ms[:, i])) for i, name in enumerate(("input", *WAYS))},
        "of_input": {name: float(np.median(ms[:, i + 1] / ms[:, 0])) for i, name in enumerate(WAYS)},
        "uniform_over_latency": [speed_up(ms[:, 2], ms[:, 1]), *speed_up_interval(ms[:, 2], ms[:, 1])],
        "rounds": ROUNDS,
    }
    kept.write_text(json.dumps(found))
    return found


def _trained(pruned: Path, seed: int) -> Path:
    from deploykit.commands.train import train
    from deploykit.config.train import ModelConfig, TrainConfig

    config = TrainConfig(model=ModelConfig(weights=str(pruned)), data=DATA, seed=seed, **TRAINING)
    return train(pruned.with_name(f"{pruned.stem}.{seed}.pt"), config).output


def test_prune_latency(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    from deploykit.data import open_data

    shared = Path(request.config.cache.mkdir("distill"))  # the same network is trained there
    folder = Path(request.config.cache.mkdir("prune_latency"))
    monkeypatch.setenv("DEPLOYKIT_CACHE_DIR", str(folder / "cache"))
    teacher = trained_teacher(shared)
    made = _made(teacher, folder)
    test = open_data(DATA).split("test")
    right = {
        way: np.stack([answered_right(_trained(folder / f"{way}.pt", seed), test) for seed in SEEDS]) for way in WAYS
    }
    whole = answered_right(teacher, test)
    result = {
        **made,
        "network": TOLD,
        "data": {"name": DATA, "split": "test", "n": len(test), "sha256": test.sha256},
        "asked": LATENCY,
        "training": TRAINING,
        "seeds": list(SEEDS),
        "teacher_top1": float(whole.mean()),
        "top1": {way: [float(one) for one in found.mean(axis=1)] for way, found in right.items()},
        "untrained_top1": {way: float(answered_right(folder / f"{way}.pt", test).mean()) for way in WAYS},
        "drop": {way: interval_pt(whole - found.mean(axis=0)) for way, found in right.items()},
        "gain": interval_pt(right["latency"].mean(axis=0) - right["uniform"].mean(axis=0)),
    }
    publish("prune_latency", result, _text(result))
    assert made["latency"]["latency"]["measured"] <= LATENCY
    assert made["uniform_over_latency"][0] >= 0.99  # uniform pruning has as much time
    assert result["gain"]["low_pt"] > 0


def _text(result: dict[str, Any]) -> str:
    def shown(one: dict[str, float]) -> str:
        return f"{one['estimate_pt']:+.2f} ({one['low_pt']:+.2f} … {one['high_pt']:+.2f})"

    def widths(way: str) -> str:
        return "-".join(str(layer["width"][1]) for layer in result[way]["layers"] if layer["type"] == "Conv2d")

    names = {"latency": f"--latency {result['asked']:g}", "uniform": f"--macs {result['uniform']['budget']:.3f}"}
    rows = [
        [
            names[way],
            f"{result['ms'][way]:.3f}",
            f"{100 * result['of_input'][way]:.1f}",
            f"{100 * result[way]['macs']['kept']:.1f}",
            f"{100 * result['untrained_top1'][way]:.2f}",
            f"{100 * float(np.mean(result['top1'][way])):.2f}",
            " / ".join(f"{100 * one:.2f}" for one in result["top1"][way]),
            shown(result["drop"][way]),
            widths(way),
        ]
        for way in WAYS
    ]
    heads = [
        "pruned by",
        "ms",
        "of the input's time %",
        "of its MACs %",
        "top-1 % untrained",
        "top-1 %",
        "by seed",
        "drop pt (95 %)",
        "widths",
    ]
    ratio, found = result["uniform_over_latency"], result["latency"]["latency"]
    return "\n".join(
        [
            "# Channels by measured latency against uniform pruning",
            "",
            f"{result['network']}, {100 * result['teacher_top1']:.2f} % on {result['data']['n']:,} test pictures of "
            f"{result['data']['name']}, {result['ms']['input']:.3f} ms on ONNX Runtime's CPU provider (fp32, batch 1, 1 thread). "
            f"Both networks were measured in turns: the uniform one takes {ratio[0]:.3f} × as long ({ratio[1]:.3f} … "
            f"{ratio[2]:.3f}). The layer table had predicted {100 * found['predicted']:.1f} % of the input's time where "
            f"{100 * found['measured']:.1f} % was measured ({100 * found['prediction_error']:+.1f} %). Then "
            f"{result['training']['epochs']} epochs with the labels, {len(result['seeds'])} seeds each.",
            "",
            f"**Gain: {shown(result['gain'])} points**, paired over the pictures.",
            "",
            table(heads, rows),
            "",
            told(result["where"]),
        ]
    )
