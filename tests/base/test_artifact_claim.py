"""A file that a killed command left without its manifest is replaced; anything else that lies there is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploykit.base.artifact import (
    Manifest,
    already_made,
    claim_path,
    claimed,
    files_of,
    refuse_input,
    write_artifact,
    write_manifest,
)
from deploykit.base.atomic import write_bytes
from deploykit.base.errors import BadInput
from deploykit.base.lock import alone_with


def left(path: Path, content: bytes) -> None:
    """What a kill between the two renames leaves."""
    write_bytes(path, content, claimed(path))


def test_a_claimed_file_may_be_replaced_and_the_manifest_ends_the_claim(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    left(path, b"new")
    assert claim_path(path).is_file()
    assert not already_made(path, "", force=False)
    write_manifest(path, Manifest("model", files_of(path), "train", 1))
    assert not claim_path(path).exists()


def test_a_claimed_file_over_an_older_artifact_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    made = write_artifact(path, b"old", Manifest("model", {}, "train", 1))
    left(path, b"new")
    assert not already_made(path, made.key, force=False)
    path.write_bytes(b"old")  # killed after the claim, before the file
    assert already_made(path, made.key, force=False)


@pytest.mark.parametrize("with_manifest", [False, True])
def test_what_was_put_there_after_the_kill_is_not_ours(tmp_path: Path, with_manifest: bool) -> None:
    path = tmp_path / "m.pt"
    if with_manifest:
        write_artifact(path, b"old", Manifest("model", {}, "train", 1))
    left(path, b"new")
    path.write_bytes(b"somebody else's")
    with pytest.raises(BadInput, match=r"not made by deploykit|was modified since"):
        already_made(path, "", force=False)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": "deploykit.claim/1", "files": 3}', "\xff"])
def test_a_broken_claim_claims_nothing(tmp_path: Path, content: str) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(b"x")
    claim_path(path).write_text(content, encoding="latin-1")
    with pytest.raises(BadInput, match="not made by deploykit"):
        already_made(path, "", force=False)


def test_a_claim_names_no_file_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    path = tmp_path / "sub" / "m.pt"
    left(path, b"new")
    text = claim_path(path).read_text()
    claim_path(path).write_text(text.replace('"m.pt"', '"../m.pt": "0", "m.pt"'))
    (tmp_path / "m.pt").write_bytes(b"not looked at")
    assert not already_made(path, "", force=False)


def test_leftovers_of_a_killed_command_go_when_the_output_is_worked_on_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPLOYKIT_CACHE_DIR", str(tmp_path / "cache"))
    for name in (".0123abcd.tmp.m[1].pt", ".0123abcd.tmp.m[1].pt.manifest.json", ".0123abcd.tmp.m1.pt"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / ".ffffffff.tmp.m[1].pt").mkdir()
    with alone_with(tmp_path / "m[1].pt"):
        pass
    assert sorted(os.listdir(tmp_path)) == [".0123abcd.tmp.m1.pt", "cache"]


def test_an_output_that_is_an_input_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    refuse_input(path, tmp_path / "n.pt")
    (tmp_path / "same.pt").symlink_to(path)
    with pytest.raises(BadInput, match=r"the output .*same.pt is the input. Name another file with -o"):
        refuse_input(tmp_path / "same.pt", path)
