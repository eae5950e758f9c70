"""Device clocks, CUDA graphs, page-locked copies and GPU memory, on a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deploykit.config.benchmark import BenchmarkConfig

pytestmark = pytest.mark.gpu


def test_both_clocks_stand_side_by_side_and_the_device_counts_less(tiny_model: Path, digits_npz: Path) -> None:
    from deploykit.commands.benchmark import benchmark

    config = BenchmarkConfig(data=str(digits_npz), device="cuda", batch=8, max_time_s=4, block_ms=10, until=0.2)
    report = benchmark([f"plain={tiny_model}", f"graph={tiny_model}@torch-eager:cuda_graph=1"], None, config).report
    for variant in report.variants:
        assert variant.status == "ok", variant.reason
        by_clock = {one.clock: one for one in variant.measurements if one.timed == "compute"}
        assert by_clock["device"].n == by_clock["host"].n
        assert 0 < by_clock["device"].p50_ms < by_clock["host"].p50_ms
        assert variant.audit["cuda_graph"] == (variant.name == "graph")
        assert variant.device_memory_bytes is None or variant.device_memory_bytes > 1e6
    speed = {one.name: one for one in report.variants}["graph"]["speedup"]
    assert speed.estimate > 1.2  # a small network is bound by the launches of its kernels
    assert "gpu_mhz" in report.conditions


def test_a_replayed_graph_gives_the_answers_of_the_module(tiny_model: Path) -> None:
    import torch

    from deploykit.engines import open_runner

    generator = np.random.default_rng(0)
    first, second = (generator.normal(size=(4, 3, 32, 32)).astype(np.float32) for _ in range(2))
    with open_runner(f"{tiny_model}@torch-eager:cuda_graph=1", device="cuda") as runner:
        expected = runner(second)
        tensor = runner._tensor(first)
        seen = []
        forward = runner._forward
        runner._forward = lambda x: seen.append(forward(x)) or seen[-1]
        replay = runner._on_gpu(tensor)
        tensor.copy_(runner._tensor(second))
        replay()
        torch.cuda.synchronize()
        np.testing.assert_allclose(seen[-1].float().cpu().numpy(), expected, rtol=1e-3, atol=1e-4)


def test_the_gpu_tells_its_clock_memory_and_load() -> None:
    from deploykit.latency.power import gpu

    card = gpu()
    assert card is not None
    assert (card.used_bytes() or 0) > 0
    assert (card.clock_mhz() or 0) > 100
    assert 0 <= (card.busy_share() or 0.0) <= 1
    assert isinstance(card.throttled_by(), list)
