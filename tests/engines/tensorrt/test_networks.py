"""Ten networks, heads of detectors and a segmentation network among them, as TensorRT-RTX plans: on every commit, without a GPU.

How long the builds take and how large the plans are is the benchmark's (``make bench BENCH=trt_builds``).
"""

from __future__ import annotations

import importlib.util

import pytest

from tests.benchmarks.test_trt_builds import NETS, PLANS, PRECISIONS, build_all

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx has no wheel for this machine"
)
SIZE = 96  # neither parsing nor precision knows how large the pictures are


def pairs(name: str) -> list[tuple[str, str]]:
    """Every precision, with plans that alternate over precisions and networks; the benchmark builds each in both."""
    first, plans = list(NETS).index(name), list(PLANS)
    return [(precision, plans[(first + i) % len(plans)]) for i, precision in enumerate(PRECISIONS)]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NETS)
def test_it_builds_in_every_precision(name: str) -> None:
    rows = build_all(name, SIZE, pairs(name))
    assert [row for row in rows if not row["ok"]] == []
    assert [(row["precision"], row["plan"]) for row in rows] == pairs(name)
    for row in rows:
        integers, halves = row["precision"].startswith("int8"), row["precision"] == "fp16"
        assert row["int8_convs"] == (row["convs"] if integers else 0)
        assert row["fp16_convs"] == (row["convs"] if halves else 0)
        assert row["bytes"] > 100_000
        wanted = list(PLANS[row["plan"]])
        assert row["compute_capabilities"] == wanted or (not wanted and "8.6" in row["compute_capabilities"])
