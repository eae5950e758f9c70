from __future__ import annotations

import gc
import itertools
import time

import pytest

from deploykit.base.errors import SystemTrouble
from deploykit.latency.clock import time_block, time_block_on_device


def test_a_block_is_long_enough_and_counts_every_call_but_the_first() -> None:
    made: list[int] = []
    samples = time_block(lambda: made.append(1), 2.0)
    assert len(samples) == len(made) - 1 >= 5
    assert sum(samples) < 1000
    slow = time_block(lambda: time.sleep(0.002), 0.1, least=3)
    assert len(slow) == 3
    assert min(slow) >= 2.0
    assert gc.isenabled()


@pytest.mark.parametrize("times", [[0, 10, 5], [0, 10, 10]])
def test_a_clock_that_goes_backwards_or_stands_still_is_refused(times: list[int]) -> None:
    clock = itertools.chain(times, itertools.repeat(times[-1]))
    with pytest.raises(SystemTrouble, match="the clock went backwards or stood still while a call was timed"):
        time_block(lambda: None, 1.0, clock=lambda: next(clock))
    assert gc.isenabled()


def test_both_clocks_are_kept_call_by_call() -> None:
    counted = itertools.count(1)
    host, device = time_block_on_device(lambda: float(next(counted)), 1.0)
    assert len(host) == len(device) >= 5
    assert list(device) == [float(n) for n in range(2, len(device) + 2)]  # the first call is not timed


def test_a_device_clock_that_counts_nothing_is_refused() -> None:
    with pytest.raises(SystemTrouble, match="got 0 ms"):
        time_block_on_device(lambda: 0.0, 0.1)
