"""prepare equals torchvision's transforms on PIL images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploykit.base.errors import BadInput
from deploykit.base.preprocessing import Preprocessing
from deploykit.data import prepare, synthetic_images


def by_torchvision(image: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    from PIL import Image
    from torchvision import transforms as T

    how = T.InterpolationMode(preprocessing.interpolation)
    resize = preprocessing.resize if preprocessing.resize is not None else preprocessing.size
    steps = [
        T.Resize(resize, how, antialias=True),
        T.CenterCrop(preprocessing.size),
        T.ToTensor(),
        T.Normalize(preprocessing.mean, preprocessing.std),
    ]
    return T.Compose(steps)(Image.fromarray(image)).numpy()


@settings(max_examples=60)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    h=st.integers(1, 40),
    w=st.integers(1, 40),
    extra=st.none() | st.integers(0, 20),
    interpolation=st.sampled_from(["nearest", "bilinear", "bicubic"]),
    seed=st.integers(0, 1000),
)
def test_equals_torchvision(height, width, h, w, extra, interpolation, seed) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    resize = None if extra is None else max(h, w) + extra
    preprocessing = Preprocessing((h, w), resize=resize, interpolation=interpolation)
    got = prepare([image], preprocessing)
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    np.testing.assert_allclose(got[0], by_torchvision(image, preprocessing), atol=1e-6, rtol=0)


def test_imagenet_on_a_photograph_sized_picture() -> None:
    image = synthetic_images(1, (375, 500), seed=3)[0]
    preprocessing = Preprocessing((224, 224), resize=256)
    np.testing.assert_allclose(prepare([image], preprocessing)[0], by_torchvision(image, preprocessing), atol=1e-6)


def test_array_of_the_right_size_equals_one_by_one() -> None:
    images = synthetic_images(5, (32, 32), seed=0)
    preprocessing = Preprocessing((32, 32), mean=(0.1, 0.5, 0.9), std=(0.2, 0.5, 1.5))
    one_by_one = np.concatenate([prepare([one], preprocessing) for one in images])
    np.testing.assert_array_equal(prepare(images, preprocessing), one_by_one)
    np.testing.assert_allclose(one_by_one[2], by_torchvision(images[2], preprocessing), atol=1e-6)


def test_embedded_gives_bytes() -> None:
    images = synthetic_images(2, (40, 50), seed=0)
    got = prepare(images, Preprocessing((32, 32), resize=36, embedded=True))
    assert got.dtype == np.uint8
    assert got.shape == (2, 32, 32, 3)


@pytest.mark.parametrize(
    ("images", "text"),
    [
        ([], "no pictures to prepare"),
        (np.zeros((2, 3, 8, 8), np.uint8), "images of 8 channels do not fit a network that takes 3"),
        ([np.zeros((8, 8, 3), np.float32)], "pictures; got float32 [8, 8, 3]; expected uint8 [H, W, C]"),
        ([np.zeros((0, 8, 3), np.uint8)], "got uint8 [0, 8, 3]"),
        ([np.zeros((1, 100_000, 3), np.uint8)], "a picture of 100000 × 1 pixels is too long to be resized to 64"),
    ],
)
def test_refuses(images, text: str) -> None:
    with pytest.raises(BadInput) as error:
        prepare(images, Preprocessing((48, 48), resize=64))
    assert text in error.value.line()


def test_synthetic_images_depend_on_seed_and_index_alone() -> None:
    images = synthetic_images(4, (24, 36), seed=7)
    assert images.shape == (4, 24, 36, 3)
    np.testing.assert_array_equal(images[:2], synthetic_images(2, (24, 36), seed=7))
    assert not np.array_equal(images, synthetic_images(4, (24, 36), seed=8))
    assert images.reshape(4, -1).std(axis=1).min() > 20
    assert synthetic_images(1, (1, 1), seed=0).shape == (1, 1, 1, 3)
