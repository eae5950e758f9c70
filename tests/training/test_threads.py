from __future__ import annotations

import pytest
import torch

from deploykit.training import threads
from deploykit.training.threads import choose, fixed_threads, probe_threads


def test_fewer_unless_more_are_clearly_faster() -> None:
    assert choose({1: [0.010], 2: [0.0095]}).count == 1
    assert choose({1: [0.010], 2: [0.007]}).count == 2
    assert choose({1: [0.130], 2: [1.4]}).count == 1
    assert choose({1: [0.1], 4: [0.03], 8: [0.029]}).count == 4
    assert choose({1: [0.010], 2: [0.007]}).why == "2 CPU threads (a training step by threads: 1: 10 ms, 2: 7 ms)"


def test_the_probe_runs_real_steps_turn_by_turn_and_leaves_the_setting() -> None:
    before, seen = torch.get_num_threads(), []
    found = probe_threads(lambda: seen.append(torch.get_num_threads()), 2)
    assert seen == [1, 2] * (threads.ROUNDS + 1)
    assert set(found.step_ms) == {1, 2}
    assert torch.get_num_threads() == before


def test_slow_steps_end_the_probe_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "LIMIT_S", -1.0)
    seen = []
    assert set(probe_threads(lambda: seen.append(1), 2).step_ms) == {1, 2}
    assert len(seen) == 2


def test_what_is_said_is_not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert fixed_threads(2).count == 2
    assert fixed_threads(None).why == "3 CPU threads, as OMP_NUM_THREADS says"
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(threads, "cores", lambda: 2)
    assert fixed_threads(None) is None
    assert fixed_threads(None, local_world=2).count == 1
