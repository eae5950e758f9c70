"""Pictures of every kind are read as RGB bytes, and what is no picture is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploykit.base.errors import BadInput
from deploykit.data import images as reading
from deploykit.data import read_image


def saved(path: Path, array: np.ndarray, mode: str | None = None, **options: object) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "mode"), [("a.png", "RGB"), ("a.png", "L"), ("a.png", "RGBA"), ("a.png", "LA"), ("a.png", "P"),
                       ("a.tif", "CMYK"), ("a.png", "1"), ("a.gif", "P"), ("a.bmp", "RGB"), ("a.jpg", "CMYK")],
)  # fmt: skip
def test_modes(tmp_path: Path, picture: np.ndarray, name: str, mode: str) -> None:
    path = saved(tmp_path / name, picture, mode)
    got = read_image(path)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got[..., :3], np.asarray(Image.open(path).convert("RGB")))
    assert got.shape == (6, 9, 4 if mode == "RGBA" else 3)


def test_sixteen_bits_are_scaled_not_cut(tmp_path: Path) -> None:
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    got = read_image(saved(tmp_path / "a.png", values))
    np.testing.assert_array_equal(got[0, :, 0], [0, 1, 128, 255])
    np.testing.assert_array_equal(got[..., 0], got[..., 2])


def test_dark_sixteen_bits_stay_dark(tmp_path: Path) -> None:
    got = read_image(saved(tmp_path / "a.png", np.full((2, 2), 200, dtype=np.uint16)))
    assert got.max() == 1


def test_float_tiff(tmp_path: Path) -> None:
    got = read_image(saved(tmp_path / "a.tif", np.array([[0, 0.5, 1]], dtype=np.float32)))
    np.testing.assert_array_equal(got[0, :, 1], [0, 128, 255])


def test_exif_rotation(tmp_path: Path, picture: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    got = read_image(saved(tmp_path / "a.png", picture, exif=exif))
    np.testing.assert_array_equal(got, np.rot90(picture, -1))


def test_one_pixel(tmp_path: Path) -> None:
    got = read_image(saved(tmp_path / "a.png", np.array([[[1, 2, 3]]], dtype=np.uint8)))
    assert got.tolist() == [[[1, 2, 3]]]


def test_missing_empty_foreign_truncated(tmp_path: Path, picture: np.ndarray) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    whole = saved(tmp_path / "whole.png", np.tile(picture, (20, 20, 1))).read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    for name, text in {
        "none.png": "does not exist",
        "empty.png": "empty.png is empty; expected a picture. Remove it, or pass --skip-broken.",
        "text.png": "text.png is no picture; expected JPEG",
        "half.png": "half.png is a broken picture",
    }.items():
        with pytest.raises(BadInput) as error:
            read_image(tmp_path / name)
        assert text in error.value.line()


def test_a_bomb_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: np.ndarray) -> None:
    monkeypatch.setattr(reading, "MOST_PIXELS", 50)
    with pytest.raises(BadInput, match="too large a picture; expected at most 50 pixels"):
        read_image(saved(tmp_path / "a.png", picture))
