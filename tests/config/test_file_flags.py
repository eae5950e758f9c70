"""What is stated of a file by flags: sizes, numbers for each channel, class names."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploykit.base.errors import BadInput
from deploykit.base.overrides import Stated
from deploykit.base.preprocessing import Preprocessing
from deploykit.config.common import WrongConfig, build
from deploykit.config.evaluate import EvaluateConfig
from deploykit.config.options import FileFlags
from deploykit.config.recipe import ModelFile


@pytest.mark.parametrize(
    ("given", "kept", "size"),
    [
        (32, 32, (32, 32)),
        ("32", 32, (32, 32)),
        ("48x320", (48, 320), (48, 320)),
        ("48 × 320", (48, 320), (48, 320)),
        ([48, 48], 48, (48, 48)),
        ((48, 320), (48, 320), (48, 320)),
        (None, None, None),
    ],
)
def test_sizes(given: object, kept: object, size: object) -> None:
    flags = build(FileFlags, {"size": given})
    assert (flags.size, flags.stated.size) == (kept, size)
    assert build(FileFlags, flags.plain()) == flags


@pytest.mark.parametrize("given", ["", "0", "x", "3x", "3x0", "3x4x5", "-3", "1e2", [1], [1, 2, 3], [1, 2.5], 0])
def test_sizes_that_are_none(given: object) -> None:
    with pytest.raises(WrongConfig, match="size"):
        build(FileFlags, {"size": given})


def test_class_names_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("tench\ngreat white shark\n\n\n", encoding="utf-8")
    flags = build(FileFlags, {"classes": str(tmp_path / "names.txt"), "mean": [0.5], "layout": "NHWC"})
    assert flags.stated == Stated(mean=(0.5,), classes=("tench", "great white shark"), layout="NHWC")
    assert build(FileFlags, flags.plain()) == flags  # what is stored needs no file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("a\n\nb", "line 2 is empty"),
        ("a\nb\na\n", "line 3: 'a' stands in line 1 too"),
    ],
)
def test_class_files_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "names.txt").write_text(text)
    with pytest.raises(BadInput, match=message):
        build(FileFlags, {"classes": str(tmp_path / "names.txt")})
    with pytest.raises(BadInput, match="does not exist"):
        build(FileFlags, {"classes": str(tmp_path / "other.txt")})


def test_a_recipe_states_them_of_its_model() -> None:
    model = ModelFile(file="m.onnx", size="48x320", mean=[0.5], classes=["a", "b"])
    assert model.given == {"size": (48, 320), "mean": (0.5,), "classes": ("a", "b")}
    assert EvaluateConfig.model_validate(model.given).stated.size == (48, 320)


@pytest.mark.parametrize(("given", "named"), [([0], "got 0,"), ([0.5, -1, 0.5], "got -1,")])
def test_nothing_is_divided_by_zero(given: list[float], named: str) -> None:
    with pytest.raises(WrongConfig, match=rf"std: {named} expected above 0$"):
        build(FileFlags, {"std": given})


@pytest.mark.parametrize(("channels", "expected"), [(1, "1"), (3, "1 or 3")])
def test_another_number_of_values_than_channels(channels: int, expected: str) -> None:
    with pytest.raises(BadInput, match=f"--mean; got 2 values; expected {expected}, one for each channel"):
        Stated(mean=(0.5, 0.5)).over(Preprocessing.plain((32, 32), channels))
