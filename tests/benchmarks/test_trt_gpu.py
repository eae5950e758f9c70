"""TensorRT on a GPU: what the runner costs over a bare ``execute_async_v3``, beside trtexec, and int8 as a share of the peak.

ResNet-50 at 224 pixels with random weights. Needs a GPU and ``tensorrt`` or ``tensorrt_rtx``; ``make bench BENCH=trt_gpu``.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks.results import publish, table, told, where_measured

pytestmark = [pytest.mark.bench, pytest.mark.gpu, pytest.mark.timeout(3600)]

OVERHEAD, TRTEXEC = 0.02, 0.02
ROUNDS, CALLS = 200, 20
BATCHES = (1, 8, 32, 64, 128, 256)
INT8_PEAK_TOPS = {
    "NVIDIA H200": 1979.0,
    "NVIDIA H100 80GB HBM3": 1979.0,
    "NVIDIA A100-SXM4-80GB": 624.0,
    "NVIDIA L4": 242.0,
}
RESNET50_TOPS = 8.2e-3  # two operations for each of 4.1 G multiply-accumulates
"""Dense int8 peaks as the vendor states them."""


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Path]]:
    from deploykit.commands.build import build
    from deploykit.config.build import BuildConfig
    from deploykit.engines.tensorrt.hardware import gpu
    from deploykit.engines.tensorrt.version import FLAVOURS, load
    from tests.benchmarks.test_trt_builds import NETS, graphs

    target = next((one.target for one in FLAVOURS.values() if importlib.util.find_spec(one.package) is not None), None)
    if target is None:
        pytest.skip("neither tensorrt nor tensorrt_rtx is installed")
    known = load(target).compute_capabilities()
    if known and gpu().compute_capability not in known:
        pytest.skip(f"{target} has no kernels for compute capability {gpu().compute_capability}")
    folder = tmp_path_factory.mktemp("plans")
    files = graphs("resnet50", folder, NETS["resnet50"])
    asked = {"fp16": ("float", "fp16"), "int8": ("int8", "fp16")}
    made = {}
    for name, (source, precision) in asked.items():
        config = BuildConfig(
            target=target, precision=precision, beside="none", size=224, profiles=("1:1:1", f"2:128:{BATCHES[-1]}")
        )
        made[name] = build(files[source], folder / f"{name}.engine", config).output
    return target, made


def _median_ms(call: Any) -> float:
    samples = []
    for _ in range(CALLS):
        start = time.perf_counter()
        call()
        samples.append(1e3 * (time.perf_counter() - start))
    return float(np.median(samples))


def test_runner_against_bare_calls_and_trtexec(plans: tuple[str, dict[str, Path]]) -> None:
    from deploykit.engines import open_runner
    from deploykit.engines.tensorrt.hardware import gpu

    target, files = plans
    x = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    found: dict[str, Any] = {"gpu": gpu().name, "target": target}
    with open_runner(f"{files['fp16']}@{target}:cuda_graph=0") as runner:
        ours = runner.prebound(x)
        context, cuda = runner._execution.context, runner._cuda

        def bare() -> None:
            context.execute_async_v3(cuda.stream)
            cuda.wait()

        ratios = [_median_ms(ours) / _median_ms(bare) for _ in range(ROUNDS)]
        found["runner_over_bare"] = float(np.median(ratios))
        found["bare_ms"] = _median_ms(bare)
    with open_runner(files["fp16"]) as runner:
        found["graph_ms"] = _median_ms(runner.prebound(x))
    found["trtexec_ms"] = _trtexec_ms(files["fp16"]) if target == "tensorrt" else None
    rows, best = [], 0.0
    for name, path in files.items():
        with open_runner(path) as runner:
            for batch in BATCHES:
                pictures = np.repeat(x, batch, axis=0)
                rate = 1e3 * batch / _median_ms(runner.prebound(pictures))
                rows.append({"precision": name, "batch": batch, "images_per_s": rate})
                best = max(best, rate) if name == "int8" else best
    peak = INT8_PEAK_TOPS.get(gpu().name)
    found |= {"rows": rows, "share_of_int8_peak": best * RESNET50_TOPS / peak if peak else None}
    where = where_measured("tensorrt", "tensorrt_rtx")
    lines = [[row["precision"], str(row["batch"]), f"{row['images_per_s']:,.0f}"] for row in rows]
    share = f"{found['share_of_int8_peak']:.0%} of the int8 peak" if peak else "its int8 peak is not in our table"
    text = (
        f"# ResNet-50 in {target} on {gpu().name}\n\n{told(where)} Runner over bare calls: {found['runner_over_bare']:.3f}. "
        f"Batch 1, fp16: {found['bare_ms']:.3f} ms, as a CUDA graph {found['graph_ms']:.3f} ms. int8: {share}.\n\n"
    )
    publish("trt_gpu", {**where, **found}, text + table(["precision", "batch", "images/s"], lines))
    assert found["runner_over_bare"] <= 1 + OVERHEAD
    if found["trtexec_ms"] is not None:
        assert abs(found["graph_ms"] / found["trtexec_ms"] - 1) <= TRTEXEC
    rate = {(row["precision"], row["batch"]): row["images_per_s"] for row in rows}
    assert max(rate["int8", batch] for batch in BATCHES) > max(rate["fp16", batch] for batch in BATCHES)


def _trtexec_ms(path: Path) -> float | None:
    """Median GPU compute time at batch 1, or None where there is no trtexec."""
    if (tool := shutil.which("trtexec")) is None:
        return None
    command = [tool, f"--loadEngine={path}", "--shapes=input:1x3x224x224", "--useCudaGraph", "--noDataTransfers"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"GPU Compute Time:.*?median = ([\d.]+) ms", said)
    return float(found.group(1)) if found else None
