"""Images of one number of channels for networks that take another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.data import open_data, prepare, read_image
from deploykit.data.channels import channels_note, in_channels


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_colour_becomes_luma_as_pillow_makes_it() -> None:
    image = noise(33, 21, 3)
    assert np.array_equal(in_channels(image, 1)[..., 0], np.asarray(Image.fromarray(image).convert("L")))
    grey = np.repeat(noise(33, 21, 1), 3, axis=2)
    assert np.array_equal(in_channels(grey, 1), grey[..., :1])
    assert channels_note(grey, 1) is None
    assert "luma" in str(channels_note(image, 1))


@pytest.mark.parametrize(("have", "wanted"), [(3, 3), (4, 3), (1, 3), (4, 1), (4, 4), (7, 7)])
def test_what_can_be_had(have: int, wanted: int) -> None:
    image = noise(2, 9, 9, have)
    made = in_channels(image, wanted)
    assert made.shape == (2, 9, 9, wanted)
    if wanted == 3:
        assert np.array_equal(made, np.repeat(image, 3, axis=3) if have == 1 else image[..., :3])


@pytest.mark.parametrize(("have", "wanted"), [(3, 4), (1, 4), (5, 3), (3, 5), (2, 1)])
def test_what_is_not_there_is_not_made_up(have: int, wanted: int) -> None:
    with pytest.raises(BadInput, match=f"images of {have} .* takes {wanted}"):
        in_channels(noise(9, 9, have), wanted)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_any_number_of_channels_is_resized_and_normalized(channels: int, layout: str) -> None:
    images = noise(3, 20, 30, channels)
    means = tuple(0.1 * i for i in range(channels))
    how = Preprocessing((10, 12), mean=means, std=(0.5,) * channels, layout=layout)  # type: ignore[arg-type]
    x = prepare(images, how)
    x = x if layout == "NCHW" else x.transpose(0, 3, 1, 2)
    assert (x.shape, x.dtype) == ((3, channels, 10, 12), np.float32)
    last = np.asarray(Image.fromarray(images[1, ..., -1]).resize((12, 10), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(x[1, -1], (last / np.float32(255) - means[-1]) / 0.5, atol=1e-6)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_graph_that_normalizes_gets_bytes_in_its_layout(layout: str) -> None:
    images = noise(2, 8, 8, 3)
    x = prepare(images, Preprocessing((8, 8), embedded=True, layout=layout))  # type: ignore[arg-type]
    assert np.array_equal(x, images if layout == "NHWC" else images.transpose(0, 3, 1, 2))


def test_files_of_sixteen_bits_are_scaled_by_their_full_range(tmp_path: Path) -> None:
    dark = np.arange(0, 250, dtype=np.uint16).reshape(10, 25)  # a dark one is dark, not of 8 bits
    full = (np.arange(250, dtype=np.uint16) * 263).reshape(10, 25)
    for name, values in (("dark", dark), ("full", full)):
        for suffix in (".png", ".tiff"):
            Image.fromarray(values).save(tmp_path / f"{name}{suffix}")
            read = read_image(tmp_path / f"{name}{suffix}")
            assert np.array_equal(read[..., 0], np.rint(values / 257).astype(np.uint8))


def test_transparency_is_kept_for_networks_that_take_it(tmp_path: Path) -> None:
    image = noise(6, 7, 4)
    Image.fromarray(image).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), image)


@pytest.mark.parametrize("shape", [(40, 8, 8), (40, 8, 8, 1), (40, 8, 8, 4), (40, 8, 8, 9)])
def test_arrays_of_any_number_of_channels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = noise(*shape)
    np.savez(tmp_path / "d.npz", images=images, labels=np.arange(40) % 2)
    data = open_data(str(tmp_path / "d.npz"))
    channels = 1 if len(shape) == 3 else shape[3]
    assert data.channels == channels
    assert data.preprocessing().shape == (channels, 8, 8)
    x, _ = next(data.split("train").batches(4, data.preprocessing()))
    assert x.shape == (4, channels, 8, 8)
