"""Hashes of files are kept, and asked for again when a file changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploykit.base.errors import BadInput
from deploykit.base.hashing import file_sha256
from deploykit.data import hashes


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("DEPLOYKIT_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    paths = [tmp_path / "data" / f"{i}.png" for i in range(5)]
    for i, path in enumerate(paths):
        path.write_bytes(bytes([i]) * 100)
    return [str(path) for path in paths]


def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []

    def counted(path: Path) -> str:
        asked.append(path.name)
        return file_sha256(path)

    monkeypatch.setattr(hashes, "file_sha256", counted)
    return asked


def test_each_file_is_read_once(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = counting(monkeypatch)
    assert not hashes.all_hashed(files)
    first = hashes.file_hashes(files)
    assert first.tolist() == [file_sha256(Path(path)).encode() for path in files]
    assert (hashes.file_hashes(files) == first).all()
    assert len(asked) == 5
    assert hashes.all_hashed(files)


def test_a_changed_file_is_read_again(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first = hashes.file_hashes(files)
    asked = counting(monkeypatch)
    Path(files[2]).write_bytes(b"x" * 100)
    os.utime(files[2], ns=(1, 1))
    assert not hashes.all_hashed(files)
    second = hashes.file_hashes(files)
    assert asked == ["2.png"]
    assert (first != second).tolist() == [False, False, True, False, False]


def test_a_cache_that_cannot_be_written_costs_only_time(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "blocked").write_text("a file, no folder")
    monkeypatch.setenv("DEPLOYKIT_CACHE_DIR", str(tmp_path / "blocked"))
    assert len(hashes.file_hashes(files)) == 5
    monkeypatch.setenv("DEPLOYKIT_CACHE_DIR", str(tmp_path / "bad"))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "pictures.sqlite").write_bytes(b"no database at all" * 100)
    assert len(hashes.file_hashes(files)) == 5


def test_a_file_that_vanished(files: list[str]) -> None:
    os.unlink(files[1])
    with pytest.raises(BadInput, match=r"1\.png does not exist"):
        hashes.file_hashes(files)
