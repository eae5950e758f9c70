from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deploykit.base.errors import BadInput
from deploykit.training.resume import ResumeFile
from tests.listening import Listening


def test_a_state_comes_back_whole(tmp_path: Path) -> None:
    kept = ResumeFile(tmp_path / "model.pt", "key", {"epochs": 2})
    assert kept.load() is None
    kept.save({"x": torch.arange(3), "n": 1})
    assert kept.path.name == ".model.pt.resume"
    assert torch.equal(kept.load()["x"], torch.arange(3))
    kept.remove()
    kept.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "config", "said"),
    [
        ("other", {"epochs": 3, "lr": 0.1}, r"is the state of another run \(another epochs\)"),
        ("other", {"epochs": 2, "lr": 0.1}, "other data, start weights or library versions"),
    ],
)
def test_another_runs_state_is_not_gone_on_with(
    tmp_path: Path, key: str, config: dict, said: str, listening: Listening
) -> None:
    ResumeFile(tmp_path / "model.pt", "key", {"epochs": 2, "lr": 0.1}).save({})
    assert ResumeFile(tmp_path / "model.pt", key, config).load(listening) is None
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(listening.warned)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04rubbish", b"hello"])
def test_a_damaged_state_is_said(tmp_path: Path, content: bytes, listening: Listening) -> None:
    kept = ResumeFile(tmp_path / "model.pt", "key", {})
    kept.path.write_bytes(content)
    assert kept.load(listening) is None
    assert listening.warned[0].startswith("starting over, the kept state cannot be read")


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        ResumeFile(tmp_path / "gone" / "model.pt", "key", {}).check_writable()
