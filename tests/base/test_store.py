"""Stored results are whole, verified when read, and give back exactly what was kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploykit.base.errors import BadInput
from deploykit.base.store import ENTRY, MARK, Store, read_entry

KEY = "ab" * 32


def kept(base: Path) -> Store:
    (base / "artifacts").mkdir(parents=True)
    (base / "artifacts" / "x.bin").write_bytes(b"result")
    store = Store(base / "store")
    store.keep(KEY, "x.make", base, [base / "artifacts" / "x.bin"], {"threads": 1})
    return store


def test_what_was_kept_is_found_with_its_facts(tmp_path: Path) -> None:
    entry = kept(tmp_path).find(KEY)
    assert entry is not None
    assert (entry.stage, entry.facts, list(entry.files)) == ("x.make", {"threads": 1}, ["artifacts/x.bin"])
    assert entry.size_bytes >= len(b"result")
    assert (tmp_path / "store" / MARK).is_file()
    assert [key for key, _ in Store(tmp_path / "store").entries()] == [KEY]


def test_other_keys_are_not_found(tmp_path: Path) -> None:
    assert kept(tmp_path).find("cd" * 32) is None
    assert Store(tmp_path / "none").find(KEY) is None
    assert Store(tmp_path / "none").entries() == []


def test_a_damaged_or_missing_file_is_no_result(tmp_path: Path) -> None:
    store = kept(tmp_path)
    file = tmp_path / "store" / KEY / "artifacts" / "x.bin"
    file.unlink()
    assert store.find(KEY) is None
    file.write_bytes(b"resulT")
    assert store.find(KEY) is None
    store.keep(KEY, "x.make", tmp_path, [tmp_path / "artifacts" / "x.bin"])
    assert store.find(KEY) is not None


def test_editing_an_artifact_in_place_is_noticed_although_it_shares_the_file(tmp_path: Path) -> None:
    store = kept(tmp_path)
    with (tmp_path / "artifacts" / "x.bin").open("r+b") as file:
        file.write(b"R")
    assert store.find(KEY) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": "deploykit.store/9"}', '{"schema": "deploykit.store/1", "stage": "x"}']
)
def test_broken_entries_are_no_results(tmp_path: Path, text: str) -> None:
    store = kept(tmp_path)
    (tmp_path / "store" / KEY / ENTRY).write_text(text)
    assert store.find(KEY) is None
    assert store.entries() == []


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "a/../../b"])
def test_entries_may_not_name_files_elsewhere(tmp_path: Path, name: str) -> None:
    kept(tmp_path)
    place = tmp_path / "store" / KEY
    fields = json.loads((place / ENTRY).read_text())
    fields["files"] = {name: "0" * 64}
    (place / ENTRY).write_text(json.dumps(fields))
    assert read_entry(place) is None


def test_restore_gives_back_what_is_missing_and_only_that(tmp_path: Path) -> None:
    store = kept(tmp_path)
    entry = store.find(KEY)
    assert entry is not None
    assert store.restore(entry, tmp_path) == []
    (tmp_path / "artifacts" / "x.bin").unlink()
    assert store.restore(entry, tmp_path) == ["artifacts/x.bin"]
    assert (tmp_path / "artifacts" / "x.bin").read_bytes() == b"result"


def test_restore_replaces_stored_results_but_not_what_someone_else_wrote(tmp_path: Path) -> None:
    store = kept(tmp_path)
    first = store.find(KEY)
    artifact = tmp_path / "artifacts" / "x.bin"
    artifact.unlink()
    artifact.write_bytes(b"another result")
    store.keep("cd" * 32, "x.make", tmp_path, [artifact])
    assert first is not None
    store.restore(first, tmp_path)
    assert artifact.read_bytes() == b"result"
    artifact.unlink()
    artifact.write_bytes(b"mine")
    with pytest.raises(BadInput, match="was modified since deploykit made it"):
        store.restore(first, tmp_path)
    assert artifact.read_bytes() == b"mine"
    assert store.restore(first, tmp_path, ours=lambda path: True) == ["artifacts/x.bin"]


def test_a_kill_while_keeping_leaves_no_half_result(tmp_path: Path) -> None:
    store = kept(tmp_path)
    with pytest.raises(BadInput):
        store.keep("cd" * 32, "x.make", tmp_path, [tmp_path / "artifacts" / "none.bin"])
    assert [key for key, _ in store.entries()] == [KEY]
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == sorted([KEY, MARK])
