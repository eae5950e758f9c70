"""The measurement with real worker processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deploykit.config.benchmark import BenchmarkConfig
from deploykit.latency.measure import COPY, measure, ratio
from deploykit.latency.worker import Opener

ROOT = Path(__file__).parents[2]
QUICK = BenchmarkConfig(data="unused", max_time_s=3.0, min_blocks=5, block_ms=5.0, until=0.2, end_to_end=False)


@pytest.fixture(autouse=True)
def subjects(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from tests.latency import subjects

    return subjects


def test_a_variant_planted_half_as_fast_is_found_so(subjects):
    # short calls: most fit into one turn of the processor, however many others wait for it
    openers = {"base": Opener(subjects.spinner, (0.2,)), "slow": Opener(subjects.spinner, (0.4,))}
    found = measure(
        openers, "base", BenchmarkConfig(data="unused", max_time_s=8.0, min_blocks=10, block_ms=10.0, until=0.1)
    )
    one = ratio(found, "base", "slow", "compute")
    assert one.estimate == pytest.approx(0.5, rel=0.1)
    assert one.low <= one.estimate <= one.high
    assert found.noise_floor_ratio is not None
    assert COPY not in found.times
    times = found.times["slow"]
    assert times.status == "ok"
    assert times.cold_start_ms > 0
    assert times.peak_memory_bytes > 5e6
    assert times.of("compute").warmup > 5
    assert all(len(samples) >= 5 for samples in times.of("compute").blocks.values())
    assert len(times.of("end_to_end").blocks) == -(-found.rounds // 3)
    assert np.median(np.concatenate(list(times.of("compute").blocks.values()))) >= 0.4


def test_it_stops_when_the_intervals_are_tight_or_the_time_is_over(subjects):
    openers = {"base": Opener(subjects.spinner, (1.0,)), "other": Opener(subjects.spinner, (1.0,))}
    loose = measure(
        openers,
        "base",
        BenchmarkConfig(data="unused", max_time_s=60, min_blocks=5, block_ms=5, until=0.99, end_to_end=False),
    )
    assert loose.stop_reason == "interval"
    tight = measure(
        openers,
        "base",
        BenchmarkConfig(data="unused", max_time_s=1, min_blocks=5, block_ms=5, until=1e-9, end_to_end=False),
    )
    assert tight.stop_reason == "time limit"


@pytest.mark.parametrize(
    ("fault", "after", "status", "reason"),
    [
        ("exit", 12, "failed", "its worker ended with exit code 7"),
        ("kill", 12, "failed", "its worker was killed by signal 9"),
        ("raise", 12, "failed", "RuntimeError: planted"),
        ("nan", 0, "failed", "its first answer holds 1 NaN or infinite numbers of 2"),
        ("nan later", 0, "failed", "its last answer holds 1 NaN or infinite numbers of 2"),
        ("load", 0, "failed", "the file is broken. Make it again."),
        ("unavailable", 0, "skipped", "no such device here"),
    ],
)
def test_a_worker_that_goes_wrong_is_recorded_and_the_others_go_on(subjects, fault, after, status, reason):
    openers = {"base": Opener(subjects.spinner, (1.0,)), "bad": Opener(subjects.spinner, (1.0, fault, after))}
    found = measure(openers, "base", QUICK)
    assert found.times["bad"].status == status
    assert found.times["bad"].reason.startswith(reason)
    assert found.times["base"].status == "ok"
    assert len(found.times["base"].of("compute").blocks) == found.rounds >= 5


def test_the_others_are_timed_when_the_baseline_dies(subjects):
    openers = {"base": Opener(subjects.spinner, (1.0, "exit", 8)), "other": Opener(subjects.spinner, (1.0,))}
    found = measure(openers, "base", QUICK)
    assert found.times["base"].status == "failed"
    assert found.times["other"].status == "ok"
    assert found.times["other"].of("compute").blocks
    assert found.noise_floor_ratio is None


def test_all_workers_failing_ends_the_run(subjects):
    found = measure({"base": Opener(subjects.spinner, (1.0, "load"))}, "base", QUICK)
    assert found.times["base"].status == "failed"
    assert found.stop_reason is None
    assert found.rounds == 0


def test_a_hanging_worker_is_ended(subjects):
    from deploykit.latency.workers import Worker, WorkerFailed

    with Worker("hangs", Opener(subjects.spinner, (1.0, "hang")), 1) as worker:
        worker.ready()
        worker.limit_s = 0.5
        with pytest.raises(WorkerFailed, match=r"did not answer within 0\.5 s"):
            worker.block("compute", 5.0)
    assert (worker._process.exitcode or 0) < 0  # ended by a signal: it would have slept for ten minutes


def test_threads_are_set_before_the_worker_imports_anything(subjects):
    found = measure({"base": Opener(subjects.environment, ("OMP_NUM_THREADS",))}, "base", QUICK)
    assert found.times["base"].reason == "RuntimeError: OMP_NUM_THREADS=1"


def test_all_variants_of_one_thread_compute_on_the_same_core(subjects, tmp_path):
    openers = {name: Opener(subjects.where, (str(tmp_path / name),)) for name in ("base", "other")}
    measure(openers, "base", QUICK)
    seen = {name: set((tmp_path / name).read_text().split()) for name in openers}
    assert seen["base"] == seen["other"]
    assert len(seen["base"]) == 1


SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from deploykit.config.benchmark import BenchmarkConfig
from deploykit.latency.measure import measure
from deploykit.latency.worker import Opener
from tests.latency import subjects
if __name__ == "__main__":
    class Said:
        def __init__(self): self.once = False
        def advance(self, n=1, **fields):
            if not self.once and "round" in fields:
                self.once = True
                print("measuring", file=sys.stderr, flush=True)
    from contextlib import contextmanager
    class Progress:
        @contextmanager
        def task(self, title, total=None, unit=""):
            yield Said()
        def say(self, message): pass
        def warn(self, message): pass
    measure({{"base": Opener(subjects.noisy_stdout, (1.0,))}}, "base",
            BenchmarkConfig(data="unused", max_time_s={seconds}, min_blocks=5, block_ms=5.0, until={until}, end_to_end=False), Progress())
    print("done")
"""


def test_workers_print_nothing_on_the_parents_stdout(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT.format(root=str(ROOT), seconds=2, until=0.9))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "done\n"
    assert "must not reach" in done.stderr


def test_an_interrupt_leaves_no_worker_behind(tmp_path):
    import psutil

    script = tmp_path / "run.py"
    script.write_text(SCRIPT.format(root=str(ROOT), seconds=300, until=1e-9))
    process = subprocess.Popen([sys.executable, script], stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert any("measuring" in line for line in process.stderr)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    os.killpg(process.pid, signal.SIGINT)
    process.wait(timeout=60)
    process.stderr.close()
    assert process.returncode != 0
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


def test_workers_end_when_the_parent_is_killed(tmp_path):
    import psutil

    script = tmp_path / "run.py"
    script.write_text(SCRIPT.format(root=str(ROOT), seconds=300, until=1e-9))
    process = subprocess.Popen([sys.executable, script], stderr=subprocess.PIPE, text=True)
    assert any("measuring" in line for line in process.stderr)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    process.stderr.close()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
