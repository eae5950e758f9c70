"""How long ``deploykit`` takes to answer before it does anything: help, version, a wrong word."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.results import publish, table, told, where_measured

pytestmark = pytest.mark.bench

LIMIT_S = 0.35
RUNS = 20
WORDS = {"deploykit --help": ["--help"], "deploykit --version": ["--version"], "deploykit exprot": ["exprot"]}
CODES = {"deploykit exprot": 2}


def _timed(words: list[str], code: int) -> tuple[float, float]:
    """Wall and processor seconds of one process, its start included."""
    command = [str(Path(sys.executable).with_name("deploykit")), *words]
    before = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - before
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == code
    return wall, usage.ru_utime + usage.ru_stime


def test_startup() -> None:
    where = where_measured("typer", "rich")
    for name, words in WORDS.items():
        _timed(words, CODES.get(name, 0))  # fills the file cache and __pycache__
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in WORDS}
    generator = np.random.default_rng(0)
    for _ in range(RUNS):
        for name in generator.permutation(list(WORDS)):
            times[name].append(_timed(WORDS[name], CODES.get(name, 0)))
    rows = []
    for name, pairs in times.items():
        wall, processor = np.array(pairs).T
        ranked = np.sort(wall)
        rows.append(
            {
                "command": name,
                "p50_s": round(float(ranked[(RUNS - 1) // 2]), 4),
                "p90_s": round(float(ranked[-(-9 * RUNS // 10) - 1]), 4),
                "processor_p50_s": round(float(np.median(processor)), 4),
            }
        )
    shown = [[f"`{r['command']}`", *(f"{r[key]:.3f}" for key in ("p50_s", "p90_s", "processor_p50_s"))] for r in rows]
    text = "\n".join(
        [
            "# Start-up of the command line",
            "",
            told(where),
            f"{RUNS} runs of each command in random order, from the start of the process to its end; limit {LIMIT_S} s.",
            "",
            table(["command", "p50 s", "p90 s", "processor time s"], shown),
        ]
    )
    publish("startup", {"limit_s": LIMIT_S, "runs": RUNS, **where, "rows": rows}, text)
    assert all(row["p50_s"] <= LIMIT_S for row in rows)
