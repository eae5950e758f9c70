"""100 gates of the same engine against itself, 100 against one that is 5 % slower: real engines, real runs, real retries.

``GATES_KEEP=1`` goes on from the gates of an earlier run, which the result file holds.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.benchmarks.results import RESULTS, publish, table, told, where_measured
from tests.benchmarks.slowed import BY, SLOWED, open_slowed

pytestmark = [pytest.mark.bench, pytest.mark.timeout(4 * 3600)]

GATES = int(os.environ.get("GATES", "100"))
SECONDS, BLOCK_MS = 6.0, 5.0
RETRIES = {"copy": 0, SLOWED: 4}
LIMITS = {"max_latency_ratio": 1.02, "max_drop_pt": 1.5, "max_size_ratio": 1.02}


def _engine(folder: Path) -> Path:
    """The quickstart's network, trained for two epochs, as ONNX."""
    from deploykit.commands.export import export
    from deploykit.commands.train import train
    from deploykit.config.export import ExportConfig
    from deploykit.config.train import ModelConfig, TrainConfig

    kwargs = {"depth": 14, "widths": [32, 64, 128], "stem_stride": 2}
    model = ModelConfig(arch="deploykit:resnet", kwargs=kwargs)
    train(folder / "model.pt", TrainConfig(model=model, data="digits", epochs=2, threads=1))
    export(folder / "model.pt", folder / "fp32.onnx", ExportConfig())
    return folder / "fp32.onnx"


def test_gates(tmp_path, monkeypatch):
    from deploykit.benchmarking import side_by_side
    from deploykit.commands.benchmark import benchmark
    from deploykit.commands.gate import gate
    from deploykit.config.benchmark import BenchmarkConfig
    from deploykit.config.gate import GateConfig, GatePolicy

    where = where_measured("onnxruntime-gpu", "numpy")
    engine = _engine(tmp_path)
    (tmp_path / "copy.onnx").write_bytes(engine.read_bytes())
    (tmp_path / "slowed.onnx").write_bytes(engine.read_bytes())
    monkeypatch.setattr(side_by_side, "open_timed", open_slowed)
    specs = [f"base={engine}", f"copy={tmp_path / 'copy.onnx'}", f"{SLOWED}={tmp_path / 'slowed.onnx'}"]
    rows = json.loads((RESULTS / "gates.json").read_text())["rows"] if os.environ.get("GATES_KEEP") else []
    for number in range(len(rows), GATES):
        began = time.monotonic()
        folder = tmp_path / f"run{number}"
        config = BenchmarkConfig(
            data="digits",
            baseline="base",
            end_to_end=False,
            block_ms=BLOCK_MS,
            max_time_s=SECONDS,
            until=0.001,
            seed=number,
        )
        benchmark(specs, folder, config)
        row = {"number": number}
        for name, other in (("copy", SLOWED), (SLOWED, "copy")):
            policy = GatePolicy(version=1, name=name, limits={name: LIMITS}, ignore=(other,))
            asked = GateConfig(policy=policy, retry=RETRIES[name], retry_time_s=SECONDS, annotations="none")
            found = gate(folder, None, asked).gate
            speed = next(one for one in found.findings if one.rule == "max_latency_ratio")
            row[name] = {
                "verdict": found.verdict,
                "looks": found.looks,
                "ratio": speed.value,
                "low": speed.low,
                "high": speed.high,
                "speed_verdict": speed.verdict,
            }
        row["seconds"] = round(time.monotonic() - began, 1)
        rows.append(row)
        told_one = " ".join(f"{name} {row[name]['ratio']:.4f} {row[name]['verdict']}" for name in ("copy", SLOWED))
        if len(rows) % 10 == 0:
            _publish(rows, where)  # what was measured stays, whatever ends the run
        print(f"{number:3d} {told_one} {row['seconds']} s", flush=True)
    _publish(rows, where)
    copies, slowed = (Counter(row[name]["verdict"] for row in rows) for name in ("copy", SLOWED))
    assert copies["fail"] <= max(1, GATES // 100)
    assert slowed["fail"] >= 0.95 * GATES
    assert slowed["pass"] == 0


def _publish(rows, where):
    cells = []
    for name, what in (("copy", "its copy (A/A)"), (SLOWED, f"a variant that waits {BY:.0%} of each call")):
        found = [row[name] for row in rows]
        count = Counter(one["verdict"] for one in found)
        ratios = sorted(one["ratio"] for one in found)
        more = sum(one["looks"] > 1 for one in found)
        told_range = f"{ratios[0]:.3f} … {ratios[len(ratios) // 2]:.3f} … {ratios[-1]:.3f}"
        cells.append([what, *(str(count[one]) for one in ("pass", "fail", "cannot_tell")), told_range, str(more)])
    seconds = sorted(row["seconds"] for row in rows)
    text = "\n".join(
        [
            f"# {len(rows)} gates: the quickstart's engine against itself, and against one that is 5 % slower",
            "",
            "`make bench BENCH=test_gates`: real engines in real worker processes, each gate with a measurement of its own "
            f"({SECONDS:g} s for all variants, blocks of {BLOCK_MS:g} ms); policy `max_latency_ratio: 1.02`, 95 % "
            f"confidence; the copy is judged at one look, the slower one with `--retry {RETRIES[SLOWED]}` where undecided.",
            told(where),
            "",
            table(
                [
                    "the engine against",
                    "pass",
                    "fail",
                    "cannot tell",
                    "time ratio: least, median, most",
                    "measured again",
                ],
                cells,
            ),
            "",
            f"A gate of both took {seconds[len(seconds) // 2]:.0f} s in the middle (with other work on the machine), "
            f"{seconds[-1]:.0f} s at most.",
        ]
    )
    publish("gates", {**where, "limits": LIMITS, "retries": RETRIES, "rows": rows}, text)
