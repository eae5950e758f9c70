"""What the ORT runner costs over a bare ``run_with_iobinding`` with bound buffers, on the 32-pixel network."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.bench

LIMIT_US = 20.0
ROUNDS, CALLS = 400, 20
RESULTS = Path(__file__).parents[2] / "recipes" / "results"


def _quickstart_onnx(path: Path) -> None:
    import torch

    from deploykit.models import Arch, build

    kwargs = {"depth": 14, "widths": [32, 64, 128], "stem_stride": 2, "num_classes": 10}
    module = build(Arch("deploykit", "resnet", kwargs)).eval()
    program = torch.onnx.export(
        module,
        (torch.zeros(2, 3, 32, 32),),
        dynamo=True,
        input_names=["input"],
        output_names=["output"],
        dynamic_shapes=({0: "batch"},),
        opset_version=20,
        verbose=False,
    )
    program.save(path, external_data=False)


def _timed_us(call) -> float:
    """The typical time of one of a few calls in a row, in µs."""
    samples = []
    for _ in range(CALLS):
        before = time.perf_counter_ns()
        call()
        samples.append(time.perf_counter_ns() - before)
    return float(np.median(samples)) / 1e3


def test_runner_overhead(tmp_path):
    import onnxruntime as ort

    from deploykit.base.environment import cpu, library_versions
    from deploykit.engines import open_runner
    from deploykit.latency.clock import time_block
    from deploykit.stats.paired import bootstrap_mean

    path = tmp_path / "net.onnx"
    _quickstart_onnx(path)
    x = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
    with open_runner(path, threads=1) as runner:
        session = runner._session
        binding = session.io_binding()
        given, answer = x.copy(), np.empty((1, 10), np.float32)
        binding.bind_ortvalue_input("input", ort.OrtValue.ortvalue_from_numpy(given))
        binding.bind_ortvalue_output("output", ort.OrtValue.ortvalue_from_numpy(answer))
        prebound = runner.prebound(x)
        calls = {
            "bare": lambda: session.run_with_iobinding(binding),
            "runner": lambda: runner(x),
            "prebound": prebound,
            "session.run": lambda: session.run(None, {"input": x}),
        }
        for call in calls.values():
            for _ in range(200):
                call()
        np.testing.assert_array_equal(runner(x), answer)
        generator = np.random.default_rng(0)
        times = {name: np.empty(ROUNDS) for name in calls}
        for number in range(ROUNDS):
            for name in generator.permutation(list(calls)):
                times[name][number] = _timed_us(calls[name])
    nothing = np.median(time_block(lambda: None, 50.0)) * 1e3
    rows = []
    for name, values in times.items():
        difference = values - times["bare"]
        low, high = bootstrap_mean(np.clip(difference, *np.quantile(difference, [0.05, 0.95])), resamples=2000)
        rows.append(
            {
                "call": name,
                "p50_us": float(np.median(values)),
                "overhead_us": float(np.median(difference)),
                "overhead_us_low": low,
                "overhead_us_high": high,
                "ratio": float(np.median(values / times["bare"])),
            }
        )
    machine = cpu()
    result = {
        "benchmark": "runner_overhead",
        "network": "deploykit:resnet depth 14, widths 32-64-128, stem stride 2, 32 px, batch 1, 1 thread",
        "limit_us": LIMIT_US,
        "rounds": ROUNDS,
        "calls_per_round": CALLS,
        "clock_us": float(nothing),
        "machine": machine,
        "libraries": library_versions(("onnxruntime", "onnxruntime-gpu", "numpy", "deploykit")),
        "rows": rows,
    }
    text = _table(result)
    print("\n" + text)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "runner_overhead.json").write_text(json.dumps(result, indent=2) + "\n")
    (RESULTS / "runner_overhead.md").write_text(text)
    runner_row = next(row for row in rows if row["call"] == "runner")
    assert runner_row["overhead_us"] <= LIMIT_US
    assert nothing <= LIMIT_US


def _table(result) -> str:
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result["libraries"].items())
    lines = [
        "# Overhead of the ONNX Runtime runner",
        "",
        f"{result['network']}. {machine['model']}, {machine['cores']} cores, {', '.join(machine['isa'])}. {versions}.",
        f"{result['rounds']} interleaved rounds of {result['calls_per_round']} calls; overhead is the median of the paired",
        f"differences to the bare call, the interval a bootstrap of their winsorised (5 %) mean. Reading the clock: "
        f"{result['clock_us']:.2f} µs.",
        "",
        "| call | p50 µs | overhead µs | interval | ratio |",
        "| :-- | --: | --: | --: | --: |",
    ]
    names = {
        "bare": "bare `run_with_iobinding`",
        "runner": "`runner(x)`",
        "prebound": "`runner.prebound(x)()`",
        "session.run": "`session.run`",
    }
    for row in result["rows"]:
        interval = f"{row['overhead_us_low']:.2f} … {row['overhead_us_high']:.2f}"
        lines.append(
            f"| {names[row['call']]} | {row['p50_us']:.1f} | {row['overhead_us']:.2f} | {interval} | {row['ratio']:.3f} |"
        )
    return "\n".join(lines) + "\n"
