"""False alarms and misses of a gate on speed under drift: sequential against interleaved, a ratio of medians against the
interval test. Simulated, because only there the true slow-down is known: ``make bench BENCH=simulation``."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deploykit.gating.question import CANNOT_TELL, FAIL, PASS
from tests.benchmarks.results import publish, table

pytestmark = pytest.mark.bench

TRIALS, ROUNDS, LIMIT, LEVEL = 1000, 60, 1.03, 0.95
SLOWER = (0.0, 0.02, 0.05, 0.10)
WALK, NOISE = 0.0054, 0.02
PROCESSES = (0.0, 0.01)


def times(generator, slower: float, apart: float, *, interleaved: bool) -> tuple[np.ndarray, np.ndarray]:
    """Block medians of baseline and candidate, [ROUNDS] each, from one machine's time.

    The machine's log speed is a random walk whose step makes the ratio of two runs in a row vary by 3.4 % (measured on a
    shared 2-core machine); blocks have heavy-tailed noise (Student's t with 4 degrees of freedom) of 2 %.

    Args:
        generator: of all that is random.
        slower: true slow-down of the candidate.
        apart: standard deviation of the log speed that a process keeps for all its life.
        interleaved: blocks of both alternate in random order, else one runs after the other.
    """
    machine = generator.normal(0, WALK, 2 * ROUNDS).cumsum() + NOISE * generator.standard_t(4, 2 * ROUNDS) / math.sqrt(
        2
    )
    if interleaved:
        first = generator.integers(0, 2, ROUNDS)
        pairs = machine.reshape(ROUNDS, 2)
        base, candidate = pairs[np.arange(ROUNDS), first], pairs[np.arange(ROUNDS), 1 - first]
    else:
        base, candidate = machine[:ROUNDS], machine[ROUNDS:]
    shift = math.log1p(slower) + generator.normal(0, apart * math.sqrt(2))
    return np.exp(base), np.exp(candidate + shift)


def naive(base: np.ndarray, candidate: np.ndarray) -> str:
    """What most gates do: the ratio of two medians against the limit."""
    return FAIL if np.median(candidate) / np.median(base) > LIMIT else PASS


def interval_test(base: np.ndarray, candidate: np.ndarray) -> str:
    """deploykit's: the whole interval of the paired ratio."""
    from deploykit.stats.ratio import log_ratio

    low, high = (-end for end in reversed(log_ratio(base, candidate, resamples=1000).interval(LEVEL)))
    limit = math.log(LIMIT)
    return FAIL if low > limit else PASS if high < limit else CANNOT_TELL


WAYS = {
    "sequential, ratio of medians": (False, naive),
    "sequential, interval": (False, interval_test),
    "interleaved, ratio of medians": (True, naive),
    "interleaved, interval (deploykit)": (True, interval_test),
}


def simulated() -> list[dict]:
    rows = []
    for apart in PROCESSES:
        for name, (interleaved, decide) in WAYS.items():
            row = {"way": name, "processes_apart": apart}
            for slower in SLOWER:
                generator = np.random.default_rng(7)
                found = [decide(*times(generator, slower, apart, interleaved=interleaved)) for _ in range(TRIALS)]
                row[f"{slower:.0%}"] = {kind: found.count(kind) / TRIALS for kind in (FAIL, PASS, CANNOT_TELL)}
            rows.append(row)
    return rows


def test_simulation():
    rows = simulated()
    found = {(row["way"], row["processes_apart"]): row for row in rows}
    texts = []
    for apart in PROCESSES:
        cells = []
        for row in rows:
            if row["processes_apart"] != apart:
                continue
            wrong = [row[f"{slower:.0%}"][FAIL if slower < LIMIT - 1 else PASS] for slower in SLOWER]
            unsure = [row[f"{slower:.0%}"][CANNOT_TELL] for slower in SLOWER]
            told = [f"{a:.1%}" + (f" (+{b:.1%} ?)" if b else "") for a, b in zip(wrong, unsure, strict=True)]
            cells.append([row["way"], *told])
        heads = ["", "0 %: alarms", "2 %: alarms", "5 %: misses", "10 %: misses"]
        what = f"each process {apart:.0%} faster or slower for all its life" if apart else "drift of the machine alone"
        texts += [f"**{what[0].upper()}{what[1:]}**", "", table(heads, cells), ""]
    text = "\n".join(
        [
            f"# Wrong verdicts of a gate at +{LIMIT - 1:.0%} under drift, simulated",
            "",
            f"`make bench BENCH=simulation`: {TRIALS} gates a cell, {ROUNDS} blocks of each side; random walk of the machine's "
            f"speed (a ratio of two runs in a row varies by 3.4 %) and heavy-tailed noise of {NOISE:.0%} a block. Columns are "
            "true slow-downs; an alarm is a `fail` of 0 % or 2 %, a miss a `pass` of 5 % or 10 %, `?` the share of "
            '"cannot tell", which is no error and can be measured on.',
            "",
            *texts,
        ]
    )
    publish("simulation", {"trials": TRIALS, "rounds": ROUNDS, "limit": LIMIT, "rows": rows}, text.rstrip())
    ours, theirs = found["interleaved, interval (deploykit)", 0.0], found["sequential, ratio of medians", 0.0]
    assert ours["0%"][FAIL] <= 0.005
    assert ours["2%"][FAIL] <= 0.03
    assert ours["5%"][PASS] <= 0.005
    assert ours["10%"][PASS] == 0
    assert theirs["0%"][FAIL] > 0.05
    assert theirs["5%"][PASS] > 0.1
