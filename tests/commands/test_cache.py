"""Only what is ours goes, and only what nobody uses unless all shall go."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from filelock import FileLock
from typer.testing import CliRunner

from deploykit.base.errors import BadInput
from deploykit.base.store import ENTRY, Store
from deploykit.cli.main import app
from deploykit.commands.cache import cache
from deploykit.config.cache import CacheConfig


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with a result in use, and an older one that is not; the user's cache is empty."""
    monkeypatch.setenv("DEPLOYKIT_CACHE_DIR", str(tmp_path / "cache"))
    run = tmp_path / "runs" / "x"
    (run / "artifacts").mkdir(parents=True)
    (run / "lock").touch()
    artifact = run / "artifacts" / "fp32.onnx"
    for key, content in (("a" * 64, b"old result"), ("b" * 64, b"new result")):
        artifact.unlink(missing_ok=True)
        artifact.write_bytes(content)
        Store(run / "store").keep(key, "fp32.export", run, [artifact])
    entry = run / "store" / ("a" * 64) / ENTRY
    fields = json.loads(entry.read_text())
    fields["created"] = "2020-01-01T00:00:00+00:00"
    entry.write_text(json.dumps(fields))
    return run


def keys(run: Path) -> set[str]:
    return {key[0] for key, _ in Store(run / "store").entries()}


def test_list_tells_size_age_and_use(run_folder: Path, tmp_path: Path) -> None:
    result = cache(tmp_path)
    assert [(row.stage, row.used) for row in result.rows] == [("fp32.export", False), ("fp32.export", True)]
    assert result.rows[0].age_s > 86400 * 365
    assert result.rows[0].size_bytes > 10
    assert "old" in result.summary()
    assert "in use" in result.summary()


def test_clean_is_dry_until_yes(run_folder: Path, tmp_path: Path) -> None:
    dry = cache(tmp_path, CacheConfig(action="clean"))
    assert "Would remove 1 of 2 results" in dry.summary()
    assert dry.summary().endswith("Add --yes to do it.")
    assert keys(run_folder) == {"a", "b"}
    assert not any(entry["removed"] for entry in dry.to_dict()["entries"])
    done = cache(tmp_path, CacheConfig(action="clean", yes=True))
    assert "Removed 1 of 2 results" in done.summary()
    assert keys(run_folder) == {"b"}
    assert (run_folder / "artifacts" / "fp32.onnx").read_bytes() == b"new result"


def test_all_takes_results_in_use_too_but_never_artifacts(run_folder: Path, tmp_path: Path) -> None:
    cache(tmp_path, CacheConfig(action="clean", everything=True, yes=True))
    assert keys(run_folder) == set()
    assert (run_folder / "artifacts" / "fp32.onnx").is_file()


def test_older_than(run_folder: Path, tmp_path: Path) -> None:
    cache(tmp_path, CacheConfig(action="clean", everything=True, older_than_s=86400, yes=True))
    assert keys(run_folder) == {"b"}


def test_what_is_not_ours_stays(run_folder: Path, tmp_path: Path) -> None:
    (run_folder / "store" / "notes").mkdir()
    (run_folder / "store" / "notes" / "x.txt").write_text("x")
    (tmp_path / "other" / "store").mkdir(parents=True)
    (tmp_path / "other" / "store" / "y.txt").write_text("y")
    cache(tmp_path, CacheConfig(action="clean", everything=True, yes=True))
    assert (run_folder / "store" / "notes" / "x.txt").is_file()
    assert (tmp_path / "other" / "store" / "y.txt").is_file()


def test_a_run_at_work_is_left_alone(run_folder: Path, tmp_path: Path) -> None:
    with FileLock(run_folder / "lock"):
        result = cache(tmp_path, CacheConfig(action="clean", everything=True, yes=True))
    assert result.rows == ()
    assert keys(run_folder) == {"a", "b"}


def test_the_users_cache_goes_only_with_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "cache"
    home.mkdir()
    (home / "pictures.sqlite").write_bytes(b"x")
    (home / "thesis.txt").write_text("x")
    (home / "teachers").mkdir()
    (home / "teachers" / "answers.npy").write_bytes(b"xyz")
    monkeypatch.setenv("DEPLOYKIT_CACHE_DIR", str(home))
    cache(tmp_path, CacheConfig(action="clean", yes=True))
    assert (home / "pictures.sqlite").is_file()
    assert {row.place.name: row.size_bytes for row in cache(tmp_path).rows} == {"pictures.sqlite": 1, "teachers": 3}
    cache(tmp_path, CacheConfig(action="clean", everything=True, yes=True))
    assert not (home / "pictures.sqlite").exists()
    assert not (home / "teachers").exists()
    assert (home / "thesis.txt").is_file()


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"the folder .*none does not exist\. Name the folder that holds your runs\."):
        cache(tmp_path / "none")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["scrub"], "ACTION: got 'scrub', expected 'list' or 'clean'"),
        (["clean", "--older-than", "long"], "--older-than; got long; expected a number with s, min, h or d"),
    ],
)
def test_wrong_words(words: list[str], line: str) -> None:
    done = CliRunner().invoke(app, ["cache", *words])
    assert done.exit_code == 2
    assert line in done.stderr


def test_the_command(run_folder: Path, tmp_path: Path) -> None:
    os.utime(run_folder, (time.time(), time.time()))
    words = ["cache", "clean", str(tmp_path), "--older-than", "7d", "--yes", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["schema"], answer["removed"]) == ("deploykit.cache/1", True)
    assert [entry["removed"] for entry in answer["entries"]] == [True, False]
