"""What the measuring itself adds to a call, against a runner that does nothing, in a real worker process."""

from __future__ import annotations

import time

import numpy as np
import pytest

from deploykit.latency.worker import Opener
from deploykit.latency.workers import Worker
from tests.benchmarks.results import publish, table, told, where_measured

pytestmark = pytest.mark.bench

LIMIT_US = 20.0
BLOCKS, BLOCK_MS = 40, 50.0


class NoOp:
    """Answers at once; with ``on_device`` it also tells a device's time."""

    def __init__(self, on_device: bool) -> None:
        self.on_device = on_device

    def load(self) -> None:
        pass

    def answer(self) -> np.ndarray:
        return np.ones((1, 1))

    def facts(self) -> dict:
        return {"device": "cpu", "fixed_batch": None}

    def call(self, name: str):
        return lambda: None

    def device_call(self, name: str):
        return (lambda: 0.001) if self.on_device else None

    def close(self) -> None:
        pass


def no_op(on_device: bool) -> NoOp:
    return NoOp(on_device)


def _measured(on_device: bool) -> dict[str, float]:
    with Worker("no-op", Opener(no_op, (on_device,)), 1) as worker:
        worker.ready()
        worker.block("compute", BLOCK_MS)
        samples, a_call, a_block = [], [], []
        for _ in range(BLOCKS):
            start = time.perf_counter()
            block = worker.block("compute", BLOCK_MS)
            wall_ms = (time.perf_counter() - start) * 1e3
            samples.append(block.host)
            a_call.append(1e3 * wall_ms / len(block.host))
            a_block.append(wall_ms - BLOCK_MS)
        worker.finish()
    pooled = 1e3 * np.concatenate(samples)
    return {
        "inside_sample_p50_us": float(np.median(pooled)),
        "inside_sample_p99_us": float(np.quantile(pooled, 0.99)),
        "a_call_us": float(np.median(a_call)),
        "around_block_ms": float(np.median(a_block)),
    }


def test_measuring_overhead() -> None:
    rows = {"host clock": _measured(False), "host and device clock": _measured(True)}
    where = where_measured("numpy")
    lines = [
        "# What the measuring adds to a call",
        "",
        f"A runner that does nothing, in a worker process, {BLOCKS} blocks of {BLOCK_MS:g} ms. *In the sample* is what every "
        "recorded time is too long by; *a call* is the whole loop's time per call, clock reads and storing included; "
        "*around a block* is what granting it and sending its samples back takes.",
        "",
        told(where),
        "",
        table(
            ["clock", "in the sample, p50 µs", "p99 µs", "a call, µs", "around a block, ms"],
            [
                [
                    name,
                    *(f"{row[key]:.2f}" for key in ("inside_sample_p50_us", "inside_sample_p99_us", "a_call_us")),
                    f"{row['around_block_ms']:.1f}",
                ]
                for name, row in rows.items()
            ],
        ),
    ]
    publish("measuring_overhead", {**where, "limit_us": LIMIT_US, "rows": rows}, "\n".join(lines))
    for row in rows.values():
        assert row["inside_sample_p50_us"] <= row["a_call_us"] + 0.1
        assert row["a_call_us"] <= LIMIT_US
