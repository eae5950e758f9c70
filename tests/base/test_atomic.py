"""Files are there whole or not at all: after an error, a kill, a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from deploykit.base.atomic import (
    atomic_folder,
    atomic_path,
    make_folder,
    remove_leftovers,
    write_bytes,
    write_json,
    write_text,
)
from deploykit.base.errors import BadInput, SystemTrouble

needs_user = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "eins")
    write_text(tmp_path / "a.txt", "zwei")
    assert (tmp_path / "a.txt").read_text() == "zwei"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_an_error_inside_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_the_temporary_name_keeps_the_suffixes(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.onnx") as temporary:
        assert temporary.suffix == ".onnx"
        temporary.write_bytes(b"x")


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "f") as temporary:
        (temporary / "x").write_text("x")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with atomic_folder(tmp_path / "f") as temporary:
        (temporary / "x").write_text("x")
    assert (tmp_path / "f" / "x").read_text() == "x"


def test_a_missing_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"cannot write .*x\.txt: the folder .*none does not exist\. Create it first\."):
        write_text(tmp_path / "none" / "x.txt", "x")


@needs_user
def test_an_unwritable_folder_is_bad_input(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(BadInput, match="no permission"):
        write_text(tmp_path / "x.txt", "x")
    tmp_path.chmod(0o700)


def test_json_refuses_what_json_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_and_leaves_the_old_file(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the write fails half way, as there."""
    write_bytes(tmp_path / "x.bin", b"old")
    program = f"""
import resource, signal
from pathlib import Path
from deploykit.base.atomic import write_bytes
from deploykit.base.errors import DeploykitError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_bytes(Path({str(tmp_path / "x.bin")!r}), bytes(1_000_000))
except DeploykitError as error:
    print(error.exit_code, error.line())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("5 cannot write ")
    assert (tmp_path / "x.bin").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x.bin"]


def test_enospc_is_the_full_disk(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    full = Path("/dev/full")
    with pytest.raises(SystemTrouble, match="the disk is full"), atomic_path(tmp_path / "x"):
        full.write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_kill_leaves_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "x.txt", "old")
    program = f"""
import time
from pathlib import Path
from deploykit.base.atomic import atomic_path
with atomic_path(Path({str(tmp_path / "x.txt")!r})) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""
    writer = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "writing\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert (tmp_path / "x.txt").read_text() == "old"
    [left] = [path for path in tmp_path.iterdir() if path.name != "x.txt"]
    remove_leftovers(tmp_path)
    assert left.exists(), "young leftovers may belong to a process that still writes"
    os.utime(left, (time.time() - 7200, time.time() - 7200))
    remove_leftovers(tmp_path)
    assert not left.exists()


@pytest.mark.parametrize("making", [atomic_path, atomic_folder])
def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path, making: Any) -> None:
    (tmp_path / "a").write_text("mine")
    with (
        pytest.raises(BadInput, match=r"cannot write .*x: .*/a is a file; expected a folder"),
        making(tmp_path / "a" / "b" / "x"),
    ):
        pass
    assert (tmp_path / "a").read_text() == "mine"


@pytest.mark.parametrize("making", [atomic_path, atomic_folder])
def test_a_folder_that_may_not_be_written_is_said_before_the_work(
    tmp_path: Path, making: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with (
        pytest.raises(BadInput, match=r"cannot write .*x: no permission for the folder .*\. Choose another"),
        making(tmp_path / "x"),
    ):
        pytest.fail("the work began")


def test_a_folder_to_write_into_is_checked_itself_where_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path / "new")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    make_folder(tmp_path / "new")
    with pytest.raises(BadInput, match="no permission for the folder"):
        make_folder(tmp_path / "other")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) == tmp_path)
    with pytest.raises(BadInput, match=r"no permission for the folder .*new"):
        make_folder(tmp_path / "new")


def test_a_disk_that_refuses_to_remove_what_is_not_there_does_not_hide_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise OSError(30, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(SystemTrouble, match="the disk is full"), atomic_path(tmp_path / "x"):
        raise OSError(28, "No space left on device")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no folder here that takes no files")
def test_a_folder_that_takes_no_files_is_named_and_no_temporary_name_is(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as error:
        write_text(Path("/proc/x.onnx"), "x")
    assert "no file can be made in /proc" in error.value.line()
    assert ".tmp." not in error.value.line()
