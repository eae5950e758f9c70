from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deploykit.base import environment
from deploykit.base.environment import physical_cores
from deploykit.training import threads
from deploykit.training.threads import on_threads, threads_of


@pytest.mark.parametrize(("cores", "processes", "count"), [(1, 1, 1), (2, 1, 1), (4, 1, 3), (8, 2, 3), (64, 1, 16)])
def test_a_core_is_left_alone(cores: int, processes: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "physical_cores", lambda: cores)
    assert threads_of(None, processes).count == count


def test_what_is_said_comes_before_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_of(2).count == 2
    assert threads_of(None).why == "3 CPU threads, as OMP_NUM_THREADS says"


def test_siblings_of_one_core_count_once_and_a_container_has_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"cpu{n}": f"{n % 4},{n % 4 + 4}\n" for n in range(8)} | {"cpu.max": "max 100000\n"}

    class Place(type(tmp_path)):  # type: ignore[misc]
        def is_file(self) -> bool:
            return self._named() in files

        def read_text(self, *_args: object, **_kwargs: object) -> str:
            return files[self._named()]

        def _named(self) -> str:
            return next((part for part in self.parts if part in files), "")

    monkeypatch.setattr(environment, "Path", Place)
    monkeypatch.setattr(environment, "cores", lambda: 8)
    monkeypatch.setattr(environment.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert physical_cores.__wrapped__() == 4
    files["cpu.max"] = "250000 100000\n"
    assert physical_cores.__wrapped__() == 2


def test_the_setting_is_left_as_it_was() -> None:
    before = torch.get_num_threads()
    with on_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
