"""Scenarios, sweeps and builds with real worker processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deploykit.config.benchmark import BenchmarkConfig
from deploykit.latency.measure import measure
from deploykit.latency.sweep import doublings
from deploykit.latency.worker import Opener

ROOT = Path(__file__).parents[2]
QUICK = {"max_time_s": 2.0, "min_blocks": 5, "block_ms": 2.0, "until": 0.9, "end_to_end": False}


@pytest.fixture(autouse=True)
def subjects(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from tests.latency import subjects

    return subjects


def test_scenarios_and_sweeps_stand_beside_the_primary_times(subjects):
    """The subject computes each picture by itself, so that a larger batch gains nothing and the sweep ends at once."""
    settings = BenchmarkConfig(
        data="unused",
        **QUICK,
        scenarios=("multi_stream", "offline", "server"),
        sweeps=("batch", "threads"),
        multi_stream_images=4,
        server_bound_ms=500.0,
    )
    opener = Opener(subjects.spinner, (0.1,))
    asked = []

    def threaded(name, threads):
        asked.append((name, threads))
        return opener

    found = measure({"base": opener}, "base", settings, threaded=threaded)
    times = found.times["base"]
    assert times.status == "ok"
    by = {}
    for extra in times.extras:
        by.setdefault((extra.scenario, extra.sweep), []).append(extra)
    assert [one.batch for one in by["single_stream", "batch"]] == [1, 2]
    assert any("batch sweep: ended at batch 2, whose throughput gains" in note for note in times.notes)
    assert [one.batch for one in by["multi_stream", None]] == [4]
    median = {key: np.median(np.concatenate(list(one[0].series.blocks.values()))) for key, one in by.items()}
    assert median["multi_stream", None] > 2 * median["single_stream", "batch"]
    assert by["offline", None][0].batch in (1, 2)
    served = by.get(("server", None))
    if served is not None:  # on a crowded machine the search may end at its time limit
        assert 10 < served[0].rate_per_s < 10_000
        assert (served[0].series.blocks[0] > 500.0).sum() <= 8
    else:
        assert any(note.startswith("server: ") for note in times.notes)
    threads = [one.threads for one in by["single_stream", "threads"]]
    assert threads == sorted({count for _, count in asked})
    assert threads[0] == 1


@pytest.mark.parametrize("fault", ["kill", "raise"])
def test_what_dies_in_a_sweep_keeps_its_primary_times(subjects, fault):
    settings = BenchmarkConfig(data="unused", **QUICK, sweeps=("batch",))
    openers = {"base": Opener(subjects.spinner, (0.2,)), "dies": Opener(subjects.dies_at_batch, (0.2, fault, 2))}
    found = measure(openers, "base", settings)
    assert found.times["dies"].status == "ok"
    assert found.times["dies"].of("compute").blocks
    assert any(note.startswith("batch sweep: ended at batch 2: ") for note in found.times["dies"].notes)
    assert [one.batch for one in found.times["dies"].extras] == [1]
    assert [one.batch for one in found.times["base"].extras] == [1, 2]


def test_an_engine_of_fixed_batch_is_not_swept(subjects):
    found = measure(
        {"base": Opener(subjects.fixed, (0.1,))}, "base", BenchmarkConfig(data="unused", **QUICK, sweeps=("batch",))
    )
    assert found.times["base"].extras == []
    assert found.times["base"].notes == ["batch sweep: the engine takes only batch 1"]


def test_blocks_alternate_between_builds(subjects, tmp_path):
    """The second build is half as fast: both must be in the figures."""
    openers = {"base": Opener(subjects.build_that_differs, (0.3, str(tmp_path)))}
    found = measure(
        openers, "base", BenchmarkConfig(data="unused", **{**QUICK, "until": 1e-9, "max_time_s": 1.5}, builds=2)
    )
    times = found.times["base"]
    assert times.builds == 2
    medians = {number % 2: [] for number in range(2)}
    for number, block in times.of("compute").blocks.items():
        medians[number % 2].append(np.median(block))
    first, second = np.median(medians[0]), np.median(medians[1])
    assert max(first, second) > 1.4 * min(first, second)


def test_device_times_and_energy_reach_the_parent(subjects):
    found = measure({"base": Opener(subjects.on_device, (0.2,))}, "base", BenchmarkConfig(data="unused", **QUICK))
    series = found.times["base"].of("compute")
    assert series.device.keys() == series.blocks.keys()
    for number, block in series.blocks.items():
        assert len(series.device[number]) == len(block)
        assert (series.device[number] <= block + 0.05).all()


def test_threads_are_doubled_up_to_all_cores():
    assert [doublings(cores) for cores in (1, 2, 6)] == [[1], [1, 2], [1, 2, 4, 6]]
