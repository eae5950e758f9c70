"""The choices file: written, replayed, refused where it is of something else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from deploykit.base.choices import Choices, choices_path, read_choices, write_choices
from deploykit.base.environment import ISAS, isa
from deploykit.base.errors import BadInput

CHOICES = Choices("quantize", "a" * 64, "vnni", {"prefix": ["conv"]}, {"ms": [1.0, 2.0]}, "a CPU")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    place = choices_path(tmp_path / "model.int8.onnx")
    write_choices(place, CHOICES)
    assert place.name == "model.int8.onnx.choices.json"
    assert read_choices(place, "quantize", "a" * 64, "vnni") == CHOICES
    assert [one.name for one in tmp_path.iterdir()] == [place.name]


def test_the_identity_is_what_was_chosen_and_for_what() -> None:
    assert replace(CHOICES, measured={"ms": [9.0]}, machine="another").sha256 == CHOICES.sha256
    for other in (
        replace(CHOICES, chosen={"prefix": []}),
        replace(CHOICES, isa="avx2"),
        replace(CHOICES, stage="prune"),
        replace(CHOICES, parent_sha256="b" * 64),
    ):
        assert other.sha256 != CHOICES.sha256


@pytest.mark.parametrize(
    ("stage", "sha256", "name", "part"),
    [
        ("prune", "a" * 64, "vnni", "stage"),
        ("quantize", "b" * 64, "vnni", "file"),
        ("quantize", "a" * 64, "avx2", "ISA"),
    ],
)
def test_choices_of_something_else_are_refused(tmp_path: Path, stage: str, sha256: str, name: str, part: str) -> None:
    place = tmp_path / "some.json"
    write_choices(place, CHOICES)
    with pytest.raises(BadInput, match=f"another {part}"):
        read_choices(place, stage, sha256, name)


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"schema": "deploykit.manifest/1"}', '{"schema": "deploykit.choices/1", "other": 1}',
     json.dumps({"schema": "deploykit.choices/1", "stage": "quantize", "parent_sha256": "a", "isa": "x", "chosen": 3})],
)  # fmt: skip
def test_a_file_that_holds_no_choices_is_refused(tmp_path: Path, text: str) -> None:
    place = tmp_path / "some.json"
    place.write_text(text)
    with pytest.raises(BadInput):
        read_choices(place, "quantize", "a" * 64, "vnni")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        read_choices(tmp_path / "none.json", "quantize", "a" * 64, "vnni")


def test_this_machine_has_an_isa() -> None:
    assert isa() in ISAS
