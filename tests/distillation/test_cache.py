from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from deploykit.distillation import cache as module
from deploykit.distillation.cache import RememberedTeacher, forget_oldest, kept, prepared, worth_keeping
from deploykit.distillation.teachers import Moment, PreparedTeacher, Teachers
from tests.listening import Listening

SHAPE = (10, 3)


class Counting:
    """A teacher whose answer tells the picture's first value, and that knows how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, x: Tensor, moment: Moment) -> tuple[Tensor, list[Tensor]]:
        self.asked += len(x)
        return x[:, :1].repeat(1, 3) * torch.tensor([1.0, 2.0, 3.0]), []


def epoch(teacher: RememberedTeacher, number: int) -> Tensor:
    order = np.random.default_rng(number).permutation(10)
    rows = torch.zeros(SHAPE)
    for indices in np.array_split(order, 3):
        x = torch.from_numpy(indices[:, None] + 100.0 * number).float()
        rows[indices] = teacher(x, Moment(number, indices))[0]
    return rows


def test_an_epoch_is_asked_once_for_all_runs(tmp_path: Path) -> None:
    live = Counting()
    first = [epoch(RememberedTeacher(live, tmp_path, {"t": 1}, SHAPE), number) for number in (0, 1)]
    assert live.asked == 20
    again = RememberedTeacher(live, tmp_path, {"t": 1}, SHAPE)
    second = [epoch(again, number) for number in (0, 1)]
    assert live.asked == 20
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[1])
    epoch(RememberedTeacher(live, tmp_path, {"t": 2}, SHAPE), 0)
    assert live.asked == 30


def test_an_unfinished_or_damaged_epoch_is_asked_again(tmp_path: Path) -> None:
    live = Counting()
    teacher = RememberedTeacher(live, tmp_path, {}, SHAPE)
    teacher(torch.zeros(4, 1), Moment(0, np.arange(4)))
    assert list(tmp_path.iterdir()) == []
    epoch(teacher, 0)
    (stored,) = tmp_path.iterdir()
    stored.write_bytes(stored.read_bytes()[:50])
    asked = live.asked
    epoch(RememberedTeacher(live, tmp_path, {}, SHAPE), 0)
    assert live.asked == asked + 10


def test_prepared_answers_are_streamed_once(tmp_path: Path) -> None:
    calls = []

    def answers():
        calls.append(1)
        for start in (0, 4, 8):
            yield np.arange(start, min(start + 4, 10), dtype=np.float32)[:, None] * np.ones((1, 3), np.float32)

    rows = prepared(tmp_path / "new", {"a": 1}, SHAPE, answers)
    assert isinstance(rows, np.memmap)
    assert rows[:, 0].tolist() == list(range(10))
    prepared(tmp_path / "new", {"a": 1}, SHAPE, answers)
    assert len(calls) == 1
    teachers = Teachers([PreparedTeacher(rows)], 4.0)
    teachers.announce(0, np.array([7, 2]))
    assert teachers(torch.zeros(2, 3, 4, 4))[0][:, 0].tolist() == [7, 2]


def constant():
    yield np.ones(SHAPE, np.float32)


def test_clean_answers_are_kept_and_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 300)
    for name in ("a", "b", "c"):
        rows = kept(tmp_path, name, SHAPE, constant)
        assert rows.tolist() == np.ones(SHAPE).tolist()
    (only,) = tmp_path.iterdir()
    assert only.stat().st_size <= 300
    assert kept(tmp_path, "c", SHAPE, lambda: pytest.fail("asked again")).tolist() == rows.tolist()


def test_an_unusable_folder_is_told_of_once_and_the_work_goes_on(tmp_path: Path, listening: Listening) -> None:
    (tmp_path / "file").write_text("")
    unusable, live = tmp_path / "file" / "teachers", Counting()
    teacher = RememberedTeacher(live, unusable, {}, SHAPE, listening)
    first = [epoch(teacher, number) for number in (0, 1)]
    assert not torch.equal(first[0], first[1])
    assert len(listening.warned) == 1
    assert "nothing is kept in the cache folder" in listening.warned[0]
    assert kept(unusable, "clean", SHAPE, constant, listening).tolist() == np.ones(SHAPE).tolist()
    assert len(listening.warned) == 2


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "old", "oldest")):
        (tmp_path / f"{name}.npy").write_bytes(b"x" * 100)
        os.utime(tmp_path / f"{name}.npy", (1000 - age, 1000 - age))
    forget_oldest(tmp_path, 250)
    assert {path.stem for path in tmp_path.iterdir()} == {"new", "old"}


def test_imagenet_by_epoch_is_not_kept() -> None:
    assert worth_keeping(14_400, 18)
    assert not worth_keeping(1_281_167, 1000)
